/*
 * Preloaded into a program, it does to syncs, reads and the wall clock what a file of seven int64 says, at any time:
 * the file is mapped, and the test changes it while the program runs. Counters go the other way.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SYNC_WORKS, SYNC_DOES_NOTHING, SYNC_FAILS_ONCE, SYNC_FAILS };

struct control {
  volatile int64_t sync_mode;
  volatile int64_t syncs_before; /* that many still work before one fails */
  volatile int64_t sync_ms;      /* each takes so much longer */
  volatile int64_t read_ms;      /* each takes so much longer */
  volatile int64_t clock_ahead_ns;
  volatile int64_t syncs;  /* that were asked for */
  volatile int64_t failed; /* that were told to fail */
};

static struct control *control;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("EDGELOGGER_SHIM");
  int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *page = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (page != MAP_FAILED) control = page;
  close(file);
}

static void pause_ms(int64_t ms) {
  struct timespec time = {ms / 1000, ms % 1000 * 1000000};
  if (ms > 0) nanosleep(&time, NULL);
}

static int sync_as_told(long call, int file) {
  if (control) {
    __atomic_add_fetch(&control->syncs, 1, __ATOMIC_SEQ_CST);
    pause_ms(control->sync_ms);
    int64_t mode = control->sync_mode;
    if (mode == SYNC_DOES_NOTHING) return 0;
    if (mode >= SYNC_FAILS_ONCE && __atomic_fetch_sub(&control->syncs_before, 1, __ATOMIC_SEQ_CST) <= 0) {
      if (mode == SYNC_FAILS_ONCE) control->sync_mode = SYNC_WORKS;
      __atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST);
      errno = EIO;
      return -1;
    }
  }
  return (int)syscall(call, file);
}

int fsync(int file) { return sync_as_told(SYS_fsync, file); }
int fdatasync(int file) { return sync_as_told(SYS_fdatasync, file); }
int syncfs(int file) { return sync_as_told(SYS_syncfs, file); }

ssize_t pread64(int file, void *bytes, size_t count, off64_t offset) {
  if (control) pause_ms(control->read_ms);
  return syscall(SYS_pread64, file, bytes, count, offset);
}
ssize_t pread(int file, void *bytes, size_t count, off_t offset) { return pread64(file, bytes, count, offset); }

int clock_gettime(clockid_t clock, struct timespec *time) {
  int result = (int)syscall(SYS_clock_gettime, clock, time);
  if (result == 0 && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    int64_t ns = (int64_t)time->tv_sec * 1000000000 + time->tv_nsec + control->clock_ahead_ns;
    time->tv_sec = ns / 1000000000;
    time->tv_nsec = ns % 1000000000;
  }
  return result;
}
