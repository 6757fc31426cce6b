"""One password, asked of PAM: right, wrong, or right for an account that may not be used."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from agents.host import layout

SERVICE = "jackin-web"  # /etc/pam.d/jackin-web; where that is missing, PAM takes `other`
LIBRARIES = {"pam": "libpam.so.0", "c": "libc.so.6"}
RIGHT, WRONG, EXPIRED = "right", "wrong", "expired"
_SUCCESS, _DISALLOW_NULL_AUTHTOK = 0, 0x1
_PAM_TTY = 3

Check = Callable[[str, str], str]


def load(path: Path) -> ModuleType:
    """pamela from exactly this file, which only root may write. Raises OSError, HostError, ImportError.

    Nothing else of the environment is on the path, and nothing is searched with the help of other programs.
    """
    layout.check_chain(path.parent)
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise PermissionError(f"{path} is not a file that only root may write")
    ctypes.util.find_library = LIBRARIES.get  # type: ignore[assignment] # the original runs ldconfig and compilers
    spec = importlib.util.spec_from_file_location("pamela", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checker(pamela: ModuleType) -> Check:
    """The question to PAM. Not `pamela.authenticate`, which accepts an account without any password."""

    def check(account: str, password: str) -> str:
        conversation = pamela.new_simple_password_conv((password,), "utf-8")
        try:
            handle = pamela.pam_start(SERVICE, account, conv_func=conversation)
            handle.set_item(_PAM_TTY, SERVICE)
            result = pamela.PAM_AUTHENTICATE(handle, _DISALLOW_NULL_AUTHTOK)
            if result == _SUCCESS:
                allowed = pamela.PAM_ACCT_MGMT(handle, _DISALLOW_NULL_AUTHTOK)
                pamela.PAM_END(handle, allowed)
                return RIGHT if allowed == _SUCCESS else EXPIRED
            pamela.PAM_END(handle, result)
        except pamela.PAMError:
            pass
        return WRONG

    return check
