/*
 * What AddressSanitizer and Memcheck see of a heap. Cases whose name begins with `bad_` misuse an
 * object, which the tools must report; they must have nothing against the others. Each case is run
 * under both policies.
 */
#define _GNU_SOURCE
#include "check.h"
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MIB = 1 << 20, LEN = 16 * MIB };

typedef volatile unsigned char byte;

static uint32_t policy;

static shmheap_memory_handle create(const char *heap) {
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    shmheap_memory_handle mem;
    options.len = LEN;
    options.policy = policy;
    mem = shmheap_create_with(heap, &options);
    CHECK(mem != NULL);
    return mem;
}

static byte *alloc(shmheap_memory_handle mem, size_t size) {
    byte *object = (byte *)shmheap_alloc(mem, size);
    CHECK(object != NULL);
    return object;
}

/* Every byte, by this program's own instructions. */
static void touch(byte *object, size_t size) {
    size_t index;
    for (index = 0; index < size; index++) {
        object[index] = (unsigned char)(object[index] + 1);
    }
}

/* What the child does must end well, too. */
static void in_child(void (*body)(shmheap_memory_handle, byte *, int), shmheap_memory_handle mem,
                     byte *object, int out) {
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        body(mem, object, out);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void bad_read_after_free(const char *heap) {
    shmheap_memory_handle mem = create(heap);
    byte *object = alloc(mem, 100);
    touch(object, 100);
    shmheap_free(mem, (void *)object);
    CHECK(object[5] != 255);
}

static void bad_write_after_free(const char *heap) {
    shmheap_memory_handle mem = create(heap);
    byte *object = alloc(mem, 3 * MIB);
    shmheap_free(mem, (void *)object);
    object[5] = 1;
}

/* The object is another process's; it is freed here. */
static void bad_read_after_free_of_received(const char *heap) {
    shmheap_memory_handle mem = create(heap), twin = shmheap_connect(heap);
    shmheap_object_handle hdl = shmheap_ptr_to_handle(twin, (void *)alloc(twin, 100));
    byte *object = (byte *)shmheap_handle_to_ptr(mem, hdl);
    CHECK(object != NULL);
    touch(object, 100);
    shmheap_free(mem, (void *)object);
    CHECK(object[5] != 255);
}

static void bad_read_past_end(const char *heap) {
    byte *object = alloc(create(heap), 21);
    touch(object, 21);
    CHECK(object[21] != 255);
}

/* A single byte of the block, in the heap of the original functions, which places by 8 bytes. */
static void bad_read_right_past_end(const char *heap) {
    byte *object = alloc(shmheap_create(heap, LEN), 23);
    CHECK(object[23] != 255);
}

static void bad_read_past_end_of_zeroed(const char *heap) {
    byte *object = (byte *)shmheap_calloc(create(heap), 7, 3);
    CHECK(object != NULL);
    touch(object, 21);
    CHECK(object[21] != 255);
}

static void bad_read_past_end_of_aligned(const char *heap) {
    byte *object = (byte *)shmheap_aligned_alloc(create(heap), 256, 241);
    CHECK(object != NULL);
    touch(object, 241);
    CHECK(object[241] != 255);
}

static void bad_read_past_end_of_shrunk(const char *heap) {
    shmheap_memory_handle mem = create(heap);
    byte *object = (byte *)shmheap_realloc(mem, (void *)alloc(mem, 400), 385);
    CHECK(object != NULL);
    touch(object, 385);
    CHECK(object[385] != 255);
}

/* There is no room for both the old object and the new one, part of which was freed before. */
static byte *grown(shmheap_memory_handle mem, size_t size) {
    byte *object = alloc(mem, 9 * MIB), *freed = alloc(mem, 2 * MIB), *longer;
    touch(object, 16);
    CHECK(object < freed);
    shmheap_free(mem, (void *)freed);
    longer = (byte *)shmheap_realloc(mem, (void *)object, size);
    CHECK(longer == object && longer[0] == 1);
    touch(longer + 9 * MIB, size - 9 * MIB);
    return longer;
}

static void bad_read_past_end_of_grown(const char *heap) {
    byte *object = grown(create(heap), 12 * MIB - 15);
    CHECK(object[12 * MIB - 15] != 255);
}

/* It would have had room to grow where it was. */
static void bad_read_of_old_place(const char *heap) {
    shmheap_memory_handle mem = create(heap);
    byte *object = alloc(mem, 400);
    CHECK(shmheap_realloc(mem, (void *)object, 401) != NULL);
    CHECK(object[5] != 255);
}

static void bad_read_after_free_in_child(const char *heap) {
    shmheap_memory_handle mem = create(heap);
    byte *object = alloc(mem, 100);
    pid_t child;
    int status;
    shmheap_free(mem, (void *)object);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        _exit(object[5] == 255);
    }
    CHECK(waitpid(child, &status, 0) == child);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

/* Places that were freed before come back in all ways there are. */
static void reused(const char *heap) {
    static const size_t sizes[] = {0, 1, 7, 8, 21, 100, 1000, 5000, 70000, 600000, 3 * MIB};
    shmheap_memory_handle mem = create(heap);
    size_t index, size, round;
    for (round = 0; round < 3; round++) {
        for (index = 0; index < sizeof sizes / sizeof *sizes; index++) {
            byte *object = alloc(mem, size = sizes[index]), *zeroed;
            touch(object, size);
            shmheap_free(mem, (void *)object);
            zeroed = (byte *)shmheap_calloc(mem, 1, size);
            CHECK(zeroed != NULL && (size == 0 || zeroed[size - 1] == 0));
            touch(zeroed, size);
            object = (byte *)shmheap_aligned_alloc(mem, 1024, size);
            CHECK(object != NULL);
            touch(object, size);
            shmheap_free(mem, (void *)zeroed);
            object = (byte *)shmheap_realloc(mem, (void *)object, size + size / 2);
            CHECK(object != NULL);
            touch(object, size + size / 2);
            object = (byte *)shmheap_realloc(mem, (void *)object, size / 3);
            CHECK(object != NULL);
            touch(object, size / 3);
            touch(object, shmheap_usable_size(mem, (void *)object));
            shmheap_free(mem, (void *)object);
        }
    }
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

static void grown_in_place(const char *heap) {
    shmheap_memory_handle mem = create(heap);
    shmheap_free(mem, (void *)grown(mem, 12 * MIB - 15));
    shmheap_destroy(heap, mem);
}

/* What could not be freed or reallocated stands, and may be used. */
static void refused(const char *heap) {
    shmheap_memory_handle mem = create(heap);
    shmheap_memory_handle reader = shmheap_connect_with(heap, SHMHEAP_READ_ONLY);
    byte *object = alloc(mem, 100), *seen;
    shmheap_object_handle hdl = shmheap_ptr_to_handle(mem, (void *)object);
    touch(object, 100);
    CHECK_FAILS(shmheap_realloc(mem, (void *)object, LEN + 1) == NULL, ENOMEM);
    touch(object, 100);
    seen = (byte *)shmheap_handle_to_ptr(reader, hdl);
    CHECK(seen != NULL && seen != object);
    CHECK_REFUSES(shmheap_free(reader, (void *)seen), EROFS);
    CHECK(seen[98] == object[98]);
    CHECK_FAILS(shmheap_realloc(reader, (void *)seen, 8) == NULL, EROFS);
    CHECK(seen[99] == object[99]);
    CHECK_REFUSES(shmheap_free(mem, (void *)(object + 8)), EINVAL);
    touch(object, 100);
    shmheap_disconnect(reader);
    shmheap_destroy(heap, mem);
}

static void send_new(shmheap_memory_handle mem, byte *freed, int out) {
    byte *object = alloc(mem, MIB);
    shmheap_object_handle hdl = shmheap_ptr_to_handle(mem, (void *)object);
    CHECK(object == freed);
    memset((void *)object, 7, MIB);
    CHECK(write(out, &hdl, sizeof hdl) == (ssize_t)sizeof hdl);
}

/* Another process allocates where this one has freed, and hands the object over. */
static void handed_over(const char *heap) {
    shmheap_memory_handle mem = create(heap);
    byte *object = alloc(mem, MIB);
    size_t round;
    int ends[2];
    CHECK(pipe(ends) == 0);
    shmheap_free(mem, (void *)object);
    for (round = 0; round < 3; round++) {
        shmheap_object_handle hdl;
        in_child(send_new, mem, object, ends[1]);
        CHECK(read(ends[0], &hdl, sizeof hdl) == (ssize_t)sizeof hdl);
        CHECK(shmheap_handle_to_ptr(mem, hdl) == (void *)object);
        CHECK(object[0] == 7 && object[MIB - 1] == 7);
        touch(object, MIB);
        shmheap_free(mem, (void *)object);
    }
    shmheap_destroy(heap, mem);
}

static void fill(shmheap_memory_handle mem, byte *object, int out) {
    (void)mem, (void)out;
    memset((void *)object, 7, 100);
}

/* Decisions on bytes of an object that this process has not written are right. */
static void filled_by_another(const char *heap) {
    shmheap_memory_handle mem = create(heap);
    byte *object = alloc(mem, 100);
    size_t index;
    in_child(fill, mem, object, -1);
    for (index = 0; index < 100; index++) {
        CHECK(object[index] == 7);
    }
    shmheap_destroy(heap, mem);
}

/* Something else is mapped where freed objects were. */
static void mapped_again(const char *heap) {
    shmheap_memory_handle mem = create(heap);
    byte *object = alloc(mem, 5 * MIB);
    char *start = (char *)((uintptr_t)object & ~(uintptr_t)4095);
    void *mapped;
    shmheap_free(mem, (void *)object);
    shmheap_destroy(heap, mem);
    /* Not `mmap`, by which AddressSanitizer would hear of it. */
    mapped = (void *)syscall(SYS_mmap, start, (size_t)4 * MIB, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, (off_t)0);
    CHECK(mapped == start);
    touch((byte *)mapped, 4 * MIB);
    CHECK(munmap(mapped, 4 * MIB) == 0);
}

static void connected_again(const char *heap) {
    shmheap_memory_handle mem = create(heap);
    byte *object = alloc(mem, 100), *other = alloc(mem, 100);
    shmheap_object_handle hdl = shmheap_ptr_to_handle(mem, (void *)other);
    shmheap_free(mem, (void *)object);
    shmheap_disconnect(mem);
    mem = shmheap_connect(heap);
    CHECK(mem != NULL);
    touch((byte *)shmheap_underlying(mem), 4096);
    touch((byte *)shmheap_handle_to_ptr(mem, hdl), 100);
    shmheap_destroy(heap, mem);
}

/* Objects outlive the process: whoever keeps no pointer to them leaks nothing. */
static void left_behind(const char *heap) {
    shmheap_memory_handle mem = create(heap);
    size_t index;
    for (index = 0; index < 10; index++) {
        touch(alloc(mem, 100), 100);
    }
}

#define CASE(name) {#name, name}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        CASE(bad_read_after_free),
        CASE(bad_write_after_free),
        CASE(bad_read_after_free_of_received),
        CASE(bad_read_past_end),
        CASE(bad_read_right_past_end),
        CASE(bad_read_past_end_of_zeroed),
        CASE(bad_read_past_end_of_aligned),
        CASE(bad_read_past_end_of_shrunk),
        CASE(bad_read_past_end_of_grown),
        CASE(bad_read_of_old_place),
        CASE(bad_read_after_free_in_child),
        CASE(reused),
        CASE(grown_in_place),
        CASE(refused),
        CASE(handed_over),
        CASE(filled_by_another),
        CASE(mapped_again),
        CASE(connected_again),
        CASE(left_behind),
    };
    const char *named = getenv("WATCHED_POLICY");
    policy = named != NULL && strcmp(named, "scalable") == 0 ? SHMHEAP_POLICY_SCALABLE
                                                             : SHMHEAP_POLICY_FIRST_FIT;
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
