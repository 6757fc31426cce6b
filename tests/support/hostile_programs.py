"""A tiny hostile program and library for images of tests: each leaves a mark and tells what it could read."""

from __future__ import annotations

import pathlib

from tests.support.machine import run

SAID = "hostile code ran"

# What runs first of a program or a library, before any of its own loader's or libc's code: system calls only (x86-64).
_SOURCE = """
    .intel_syntax noprefix
    .text
    .globl _start
    .globl act
_start:
    call act
stay:
    mov eax, 34                     # pause
    syscall
    jmp stay
act:
    push r12
    lea rdi, [rip + mark]
    mov esi, 0x441                  # O_WRONLY | O_CREAT | O_APPEND
    mov edx, 0666
    mov eax, 2                      # open
    syscall
    mov r12, rax
    lea rdi, [rip + secret]
    xor esi, esi
    mov eax, 2
    syscall
    mov rdi, rax
    sub rsp, 4096
    mov rsi, rsp
    mov edx, 4096
    xor eax, eax                    # read
    syscall
    mov rdx, rax
    mov rdi, r12
    mov eax, 1                      # write what was read, if anything was
    syscall
    mov rdi, r12
    lea rsi, [rip + said]
    mov edx, offset said_length
    mov eax, 1
    syscall
    mov edi, 1
    lea rsi, [rip + said]
    mov edx, offset said_length
    mov eax, 1
    syscall
    add rsp, 4096
    pop r12
    ret
mark:
    .asciz "{mark}"
secret:
    .asciz "{secret}"
said:
    .ascii "{said}\\n"
    .set said_length, . - said
    .section .note.GNU-stack, "", @progbits
"""


def assemble(place: pathlib.Path, *, mark: str, secret: str) -> tuple[pathlib.Path, pathlib.Path]:
    """A static program that acts and stays, and a library that acts when it is loaded: their paths below `place`."""
    source, made, program, library = (place / name for name in ("act.s", "act.o", "program", "library.so"))
    source.write_text(_SOURCE.format(mark=mark, secret=secret, said=SAID))
    run("as", "-o", str(made), str(source))
    run("ld", "-static", "-s", "-o", str(program), str(made))
    run("ld", "-shared", "-s", "-init=act", "-o", str(library), str(made))
    return program, library
