"""Runs a program under a seccomp filter that refuses some system calls, as that of a container or a unit does:
refuse.py io_uring|setpriority PROGRAM ARG…"""

import ctypes
import os
import platform
import struct
import sys

LOAD, JUMP_GE, JUMP_GT, RETURN = 0x20, 0x35, 0x25, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ERRNO with EPERM
SETPRIORITY = 141 if platform.machine() == "x86_64" else 140
# io_uring_setup, io_uring_enter and io_uring_register have these numbers on every architecture.
FIRST, LAST = {"io_uring": (425, 427), "setpriority": (SETPRIORITY, SETPRIORITY)}[sys.argv[1]]
code = [
    (LOAD, 0, 0, 0),
    (JUMP_GE, 0, 2, FIRST),
    (JUMP_GT, 1, 0, LAST),
    (RETURN, 0, 0, REFUSE),
    (RETURN, 0, 0, ALLOW),
]
text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(text)))
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
for args in [(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)]:
    if libc.prctl(*args) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[2], sys.argv[2:])
