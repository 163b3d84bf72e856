"""Real servers whose clock can be set: a library that is loaded before the others changes the time that they see."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import pytest
import redis

from tests.servers import Binary, RedisServer

_SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *ahead_us;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_AHEAD");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return;
    void *found = mmap(0, sizeof *ahead_us, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) ahead_us = found;
    close(file);
}

static long long now_ns(void) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec + (ahead_us ? *ahead_us * 1000 : 0);
}

int clock_gettime(clockid_t which, struct timespec *time) {
    if (which != CLOCK_REALTIME) return syscall(SYS_clock_gettime, which, time);
    long long now = now_ns();
    time->tv_sec = now / 1000000000;
    time->tv_nsec = now % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *time, void *zone) {
    (void)zone;
    long long now = now_ns();
    time->tv_sec = now / 1000000000;
    time->tv_usec = now % 1000000000 / 1000;
    return 0;
}

time_t time(time_t *out) {
    time_t now = now_ns() / 1000000000;
    if (out) *out = now;
    return now;
}
"""


@cache
def _library() -> Path | None:
    """The library, compiled; None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="interval-scheduler-test-"))
    (folder / "clock.c").write_text(_SOURCE)
    made = folder / "clock.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-fno-builtin", "-o", str(made), str(folder / "clock.c")]
    return made if subprocess.run(command, capture_output=True).returncode == 0 else None


class ClockServer(RedisServer):
    """A server whose clock is `ahead` seconds before that of this machine; `set_ahead` lets it jump."""

    def __init__(self, binary: Binary, ahead: float = 0.0, options: dict[str, str] | None = None) -> None:
        self._clock = Path(tempfile.mkdtemp(prefix="interval-scheduler-test-"), "ahead")
        self._clock.write_bytes(bytes(8))
        self.set_ahead(ahead)
        super().__init__(binary, options, {"LD_PRELOAD": str(_library()), "CLOCK_AHEAD": str(self._clock)})

    def set_ahead(self, seconds: float) -> None:
        """Sets the clock. It is one write of eight bytes to what the server has mapped."""
        with self._clock.open("r+b", buffering=0) as file:
            file.write(struct.pack("q", round(seconds * 1e6)))

    def time(self) -> float:
        """What the server takes for the time."""
        with redis.Redis.from_url(self.url) as client:
            seconds, micros = client.time()
        return float(seconds) + float(micros) / 1e6

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(self._clock.parent, ignore_errors=True)


def clock_server(binary: Binary, ahead: float = 0.0, options: dict[str, str] | None = None) -> ClockServer:
    """A server whose clock can be set. Skips the test where that is impossible."""
    if _library() is None:
        pytest.skip("no C compiler, so the clock of a server cannot be set")
    made = ClockServer(binary, ahead, options)
    made.set_ahead(ahead + 1000)
    moved = made.time() - time.time() - ahead
    made.set_ahead(ahead)
    if abs(moved - 1000) > 10:
        made.stop()
        pytest.skip(f"{binary} does not ask the C library for the time")
    return made
