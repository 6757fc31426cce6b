"""What runs with daphne's rights in the tests: each program prints JSON, and tries everything even where one fails."""

from __future__ import annotations

SQL = """
import json, sqlite3, sys
database, statements = sys.argv[1], json.load(sys.stdin)
connection = sqlite3.connect(database, timeout=20, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
rows = [connection.execute(text, values).fetchall() for text, values in statements]
connection.execute("COMMIT")
print(json.dumps(rows))
"""

CONNECT = """
import errno, json, socket, sys
answers = {}
for path in json.load(sys.stdin):
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as client:
            client.settimeout(5)
            try:
                client.connect(path)
                answers[path] = 0
            except OSError as error:
                if answers.get(path) != 0 and error.errno != errno.EPROTOTYPE:
                    answers[path] = error.errno
print(json.dumps(answers))
"""

# Each line tries to change one thing; what worked is printed. A file of the attacker's own lies at argv[1].
CHANGE = """
import json, os, stat, sys
mine, done = sys.argv[1], []
def attempt(what, path, action):
    try:
        action()
    except OSError:
        return
    done.append([what, path])
for path in json.load(sys.stdin):
    try:
        found = os.lstat(path)
        directory, link = stat.S_ISDIR(found.st_mode), stat.S_ISLNK(found.st_mode)
    except OSError:
        directory, link = True, False
    if not link:
        attempt("chmod", path, lambda: os.chmod(path, 0o777))
        attempt("xattr", path, lambda: os.setxattr(path, "user.x", b"x"))
        attempt("utime", path, lambda: os.utime(path, (1, 1)))
    attempt("chown", path, lambda: os.lchown(path, os.geteuid(), os.getegid()))
    attempt("rename", path, lambda: os.rename(path, path + ".gone"))
    attempt("replace", path, lambda: os.replace(mine, path))
    if directory:
        attempt("create", path, lambda: os.close(os.open(path + "/x", os.O_WRONLY | os.O_CREAT, 0o600)))
        attempt("mkdir", path, lambda: os.mkdir(path + "/y"))
        attempt("link", path, lambda: os.symlink("/etc/passwd", path + "/z"))
        attempt("socket", path, lambda: os.mknod(path + "/s", stat.S_IFSOCK | 0o666))
    elif not link and not stat.S_ISSOCK(found.st_mode):
        attempt("append", path, lambda: os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)))
        attempt("truncate", path, lambda: os.truncate(path, 0))
        attempt("hard link", path, lambda: os.link(path, mine + ".link"))
    if not directory:
        attempt("unlink", path, lambda: os.unlink(path))
print(json.dumps(done))
"""

READ = """
import json, os, sys
done = []
for path in json.load(sys.stdin):
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            os.listdir(path)
        else:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        done.append(path)
    except OSError:
        pass
print(json.dumps(done))
"""

PROCESS = """
import ctypes, json, os, signal, socket, sys
done = []
def attempt(what, pid, action):
    try:
        action()
    except OSError:
        return
    done.append([what, pid])
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *words):
    if function(*words) == -1:
        raise OSError(ctypes.get_errno(), "refused")
for pid in json.load(sys.stdin):
    for name in ("environ", "mem", "maps", "auxv", "stack", "syscall", "io", "pagemap"):
        attempt(name, pid, lambda: open(f"/proc/{pid}/{name}", "rb").read(64))
    for name in ("exe", "cwd", "root"):
        attempt(name, pid, lambda: os.readlink(f"/proc/{pid}/{name}"))
    for name in ("fd", "map_files", "task/" + str(pid) + "/fd"):
        attempt(name, pid, lambda: os.listdir(f"/proc/{pid}/{name}"))
    for name in ("oom_score_adj", "comm", "coredump_filter", "mem", "clear_refs"):
        attempt("write " + name, pid, lambda: os.close(os.open(f"/proc/{pid}/{name}", os.O_WRONLY)))
    attempt("enter its root", pid, lambda: os.listdir(f"/proc/{pid}/root/"))
    for number in (0, signal.SIGCONT, signal.SIGSTOP, signal.SIGKILL):
        attempt(f"signal {number}", pid, lambda: os.kill(pid, number))
    attempt("ptrace", pid, lambda: call(libc.ptrace, 16, pid, 0, 0))
    attempt("seize", pid, lambda: call(libc.ptrace, 0x4206, pid, 0, 0))
    pidfd = os.pidfd_open(pid)
    for number in range(12):
        attempt(f"take descriptor {number}", pid, lambda: call(libc.syscall, 438, pidfd, number, 0))
    for kind in ("mnt", "net", "pid", "user"):
        attempt("enter " + kind, pid, lambda: call(libc.setns, os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY), 0))
    attempt("priority", pid, lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
    attempt("limits", pid, lambda: __import__("resource").prlimit(pid, 7, (1, 1)))
print(json.dumps(done))
"""

ASK = """
import json, socket, struct, sys
path, answers = sys.argv[1], []
for request in json.load(sys.stdin):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(15)
        client.connect(path)
        body = json.dumps(request).encode()
        client.sendall(struct.pack(">I", len(body)) + body)
        data = b""
        while piece := client.recv(65536):
            data += piece
        answers.append(json.loads(data[4:]))
print(json.dumps(answers))
"""
