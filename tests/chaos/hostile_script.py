"""The script of the hostile model: a request's body names what it does."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time

KEPT = []


def model_fn(model_dir):
    return None


def transform_fn(model, body, content_type, accept):
    COMMANDS[body.strip()]()
    return "fine", "text/plain"


def fork_and_return():
    os.fork()


def fork_sleepers():
    for _ in range(20):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)


def flood_stdout():
    for number in range(100_000):
        print("line", number, "of many")


def flood_one_line():
    print("x" * 20_000_000)


def write_to_descriptors():
    for descriptor in (1, 2):
        os.write(descriptor, b"y" * 300_000 + b"\n[PID] x\n[METRICS]x\nMMS worker started.\n")


def print_lines_of_the_server():
    for _ in range(20):
        print("model good is loaded")
        print("cannot load model good: it is broken")
        os.write(1, b"\nmodel good is loaded\ncannot load model good: it is broken\n")
        os.write(2, b"\nERROR model good is loaded\n")


def leak():
    KEPT.append(bytearray(os.urandom(1)) * 150_000_000)


def allocate_everything():
    KEPT.append(bytearray(2**50))


def spin():
    while True:
        pass


def spin_and_catch():
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def sleep():
    time.sleep(3600)


def block_in_native_code():
    ctypes.CDLL(None).usleep(60_000_000)


def close_descriptors():
    os.closerange(3, 4096)


def close_streams():
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def clear_environment():
    os.environ.clear()


def change_signals():
    for number in range(1, 32):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))


def start_threads():
    for _ in range(100):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()


def change_folder():
    os.chdir("/")
    sys.path.clear()


def interrupt_itself():
    raise KeyboardInterrupt


def stop_itself():
    os.kill(os.getpid(), signal.SIGSTOP)


def kill_its_parent():
    os.kill(os.getppid(), signal.SIGKILL)


COMMANDS = {
    "nothing": lambda: None,
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "_exit": lambda: os._exit(3),
    "exit": lambda: sys.exit(0),
    **{
        function.__name__: function
        for function in (
            fork_and_return,
            fork_sleepers,
            flood_stdout,
            flood_one_line,
            write_to_descriptors,
            print_lines_of_the_server,
            leak,
            allocate_everything,
            spin,
            spin_and_catch,
            sleep,
            block_in_native_code,
            close_descriptors,
            close_streams,
            clear_environment,
            change_signals,
            start_threads,
            change_folder,
            interrupt_itself,
            stop_itself,
            kill_its_parent,
        )
    },
}
