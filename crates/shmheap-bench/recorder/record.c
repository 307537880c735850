/*
 * Records what a program allocates and frees: the raw material of workload W10. The trace that
 * is shipped was made so, with CPython 3.11:
 *
 *     cc -O2 -shared -fPIC -o target/record.so crates/shmheap-bench/recorder/record.c
 *     LD_PRELOAD=$PWD/target/record.so SHMHEAP_RECORD=$PWD/target/record \
 *         PYTHONMALLOC=malloc PYTHONHASHSEED=0 \
 *         python3 -S crates/shmheap-bench/recorder/program.py
 *     cargo run -p shmheap-bench --example pack -- \
 *         target/record.<pid> crates/shmheap-bench/traces/python.gz
 *
 * Each process that is started so writes a file of its own, whose name ends with its number. It is
 * a sequence of `struct event` as they lie in memory: object `old` ends, and object `new` of
 * `bytes` bytes begins; 0 is none. Addresses tell which object ends; what the objects hold is not
 * looked at. From there on, see `src/trace`.
 *
 * The order of events is one that could have happened: no address is given out, in the record,
 * before its last owner has given it up. So an end is recorded before it happens and a beginning
 * after it; of a change of size, which is both, the lock covers the whole.
 *
 * Nothing here allocates, so nothing recurses. It is for glibc, whose allocator has second names,
 * under which it is called from here. A child of fork() records nothing until it runs a program.
 */

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *old, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern void __libc_free(void *old);

struct event {
    uint64_t old;
    uint64_t new;
    uint64_t bytes;
};

#define EVENTS_MAX 4096

static struct event events[EVENTS_MAX];
static size_t events_len;
static int file = -1;
/* Set while the file takes events: not before the start, nor after the end or in a fork. */
static atomic_bool recording;
static atomic_flag busy = ATOMIC_FLAG_INIT;

static void lock(void)
{
    while (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire))
        ;
}

static void unlock(void)
{
    atomic_flag_clear_explicit(&busy, memory_order_release);
}

/* Under the lock. A record with a gap is worth nothing: who cannot write stops. */
static void flush(void)
{
    const char *from = (const char *)events;
    size_t left = events_len * sizeof *events;

    while (left > 0) {
        ssize_t written = write(file, from, left);

        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            abort();
        from += written;
        left -= (size_t)written;
    }
    events_len = 0;
}

/* Under the lock. */
static void put(const void *old, const void *new, size_t bytes)
{
    if (!atomic_load_explicit(&recording, memory_order_relaxed))
        return;
    if (events_len == EVENTS_MAX)
        flush();
    events[events_len++] = (struct event){ (uintptr_t)old, (uintptr_t)new, bytes };
}

static void *begins(void *new, size_t bytes)
{
    int error = errno;

    if (new != NULL) {
        lock();
        put(NULL, new, bytes);
        unlock();
    }
    errno = error;
    return new;
}

/* In the child, whose only thread is this; another may have held the lock in the parent. */
static void stop_in_fork(void)
{
    atomic_store(&recording, 0);
    unlock();
}

__attribute__((constructor)) static void start(void)
{
    const char *name = getenv("SHMHEAP_RECORD");
    char path[4096];
    char digits[24];
    size_t at = sizeof digits;
    size_t len = name == NULL ? 0 : strlen(name);
    long pid = (long)getpid();

    if (len == 0 || len > sizeof path - sizeof digits - 1)
        return;
    /* Without printf, which may allocate. */
    digits[--at] = '\0';
    for (; pid > 0; pid /= 10)
        digits[--at] = (char)('0' + pid % 10);
    digits[--at] = '.';
    memcpy(path, name, len);
    memcpy(path + len, digits + at, sizeof digits - at);
    file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file >= 0 && pthread_atfork(NULL, NULL, stop_in_fork) == 0)
        atomic_store(&recording, 1);
}

__attribute__((destructor)) static void end(void)
{
    lock();
    if (atomic_load(&recording))
        flush();
    atomic_store(&recording, 0);
    unlock();
}

void *malloc(size_t bytes)
{
    return begins(__libc_malloc(bytes), bytes);
}

void *calloc(size_t count, size_t bytes)
{
    return begins(__libc_calloc(count, bytes), count * bytes);
}

void *memalign(size_t alignment, size_t bytes)
{
    return begins(__libc_memalign(alignment, bytes), bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return memalign(alignment, bytes);
}

int posix_memalign(void **to, size_t alignment, size_t bytes)
{
    int error = errno;
    void *new = memalign(alignment, bytes);

    errno = error;
    if (new == NULL)
        return ENOMEM;
    *to = new;
    return 0;
}

void free(void *old)
{
    if (old == NULL)
        return;
    int error = errno;
    lock();
    put(old, NULL, 0);
    unlock();
    errno = error;
    __libc_free(old);
}

void *realloc(void *old, size_t bytes)
{
    lock();
    void *new = __libc_realloc(old, bytes);
    int error = errno;
    /* Nothing came of it if a size was asked for and not given. */
    if (new != NULL || (bytes == 0 && old != NULL))
        put(old, new, bytes);
    unlock();
    errno = error;
    return new;
}
