/* Heaps of the scalable policy: malloc's family, handles, wrong arguments, fork, kill, room. */
#define _DEFAULT_SOURCE
#include "check.h"
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

enum { UNIT = 1 << 16, MIB = 1 << 20 };

static shmheap_memory_handle create(const char *heap, size_t len) {
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    shmheap_memory_handle mem;
    options.len = len;
    options.policy = SHMHEAP_POLICY_SCALABLE;
    mem = shmheap_create_with(heap, &options);
    CHECK(mem != NULL);
    return mem;
}

static shmheap_statistics statistics_of(shmheap_memory_handle mem) {
    shmheap_statistics statistics = SHMHEAP_STATISTICS_INIT;
    CHECK(shmheap_stats(mem, &statistics) == 0);
    CHECK(statistics.live_bytes + statistics.free_bytes + statistics.tail_bytes == statistics.len);
    CHECK(statistics.operations == 0);
    return statistics;
}

/* Sizes of all classes and of large objects, each aligned as malloc does, none overlapping. */
static void sizes(const char *heap) {
    enum { COUNT = 250 };
    static unsigned char *object[COUNT];
    static size_t size[COUNT];
    shmheap_memory_handle mem = create(heap, 64 * MIB);
    size_t index, byte, next = 0;
    for (index = 0; index < COUNT; index++) {
        size[index] = next;
        next += next / 8 + 1;
        object[index] = (unsigned char *)shmheap_alloc(mem, size[index]);
        CHECK(object[index] != NULL);
        CHECK((uintptr_t)object[index] % (size[index] >= 16 ? 16 : 8) == 0);
        CHECK(shmheap_usable_size(mem, object[index]) >= size[index]);
        CHECK(size[index] < 128 || size[index] > 512 * 1024 ||
              shmheap_usable_size(mem, object[index]) <= size[index] + size[index] / 8);
        memset(object[index], (int)index, shmheap_usable_size(mem, object[index]));
        if (next > MIB) {
            next = index;
        }
    }
    CHECK(statistics_of(mem).live_objects == COUNT);
    for (index = 0; index < COUNT; index++) {
        for (byte = 0; byte < size[index]; byte++) {
            CHECK(object[index][byte] == (unsigned char)index);
        }
        shmheap_free(mem, object[index]);
    }
    CHECK(statistics_of(mem).live_objects == 0);
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

static void zeroed(const char *heap) {
    static const size_t sizes[] = {1, 16, 100, 5000, 300000, 1000000};
    shmheap_memory_handle mem = create(heap, 8 * MIB);
    size_t index, byte;
    for (index = 0; index < sizeof sizes / sizeof *sizes; index++) {
        unsigned char *object = (unsigned char *)shmheap_alloc(mem, sizes[index]);
        CHECK(object);
        memset(object, 0xff, sizes[index]);
        shmheap_free(mem, object);
        object = (unsigned char *)shmheap_calloc(mem, sizes[index], 1);
        CHECK(object);
        for (byte = 0; byte < sizes[index]; byte++) {
            CHECK(object[byte] == 0);
        }
    }
    CHECK(shmheap_calloc(mem, 0, 100) != NULL);
    CHECK_FAILS(shmheap_calloc(mem, SIZE_MAX, 2) == NULL, ENOMEM);
    CHECK_FAILS(shmheap_calloc(mem, (size_t)1 << 33, (size_t)1 << 33) == NULL, ENOMEM);
    shmheap_destroy(heap, mem);
}

static void resized(const char *heap) {
    shmheap_memory_handle mem = create(heap, 16 * MIB);
    unsigned char *object = (unsigned char *)shmheap_realloc(mem, NULL, 1);
    size_t size, kept = 1, byte;
    CHECK(object);
    object[0] = 0;
    for (size = 3; size < 3 * MIB; size = size * 3 + 1) {
        object = (unsigned char *)shmheap_realloc(mem, object, size);
        CHECK(object != NULL && shmheap_usable_size(mem, object) >= size);
        CHECK((uintptr_t)object % (size >= 16 ? 16 : 8) == 0);
        for (byte = 0; byte < kept; byte++) {
            CHECK(object[byte] == (unsigned char)(byte * 31));
        }
        for (kept = 0; kept < size; kept++) {
            object[kept] = (unsigned char)(kept * 31);
        }
    }
    for (size = kept; size > 0; size /= 5) {
        object = (unsigned char *)shmheap_realloc(mem, object, size);
        CHECK(object != NULL && shmheap_usable_size(mem, object) >= size);
        for (byte = 0; byte < size; byte++) {
            CHECK(object[byte] == (unsigned char)(byte * 31));
        }
    }
    CHECK(shmheap_realloc(mem, object, 0) != NULL);
    CHECK(statistics_of(mem).live_objects == 1);
    object = (unsigned char *)shmheap_alloc(mem, 64);
    memset(object, 3, 64);
    CHECK_FAILS(shmheap_realloc(mem, object, SIZE_MAX) == NULL, ENOMEM);
    CHECK_FAILS(shmheap_realloc(mem, object, 17 * MIB) == NULL, ENOMEM);
    CHECK(object[63] == 3 && shmheap_usable_size(mem, object) == 64);
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

static void aligned(const char *heap) {
    shmheap_memory_handle mem = create(heap, 32 * MIB);
    size_t alignment;
    for (alignment = 1; alignment <= 2 * MIB; alignment *= 2) {
        size_t sizes[3], index;
        sizes[0] = 1;
        sizes[1] = 100;
        sizes[2] = 3 * alignment + 1;
        for (index = 0; index < 3; index++) {
            void *object = shmheap_aligned_alloc(mem, alignment, sizes[index]);
            CHECK(object != NULL && (uintptr_t)object % alignment == 0);
            CHECK((uintptr_t)object % (sizes[index] >= 16 ? 16 : 8) == 0);
            CHECK(shmheap_usable_size(mem, object) >= sizes[index]);
            memset(object, 1, sizes[index]);
            CHECK(shmheap_alloc(mem, 24) != NULL); /* nothing lies well by accident */
            shmheap_free(mem, object);
        }
    }
    CHECK_FAILS(shmheap_aligned_alloc(mem, 4 * MIB, 8) == NULL, EINVAL);
    CHECK_FAILS(shmheap_aligned_alloc(mem, 0, 8) == NULL, EINVAL);
    CHECK_FAILS(shmheap_aligned_alloc(mem, 24, 8) == NULL, EINVAL);
    CHECK_FAILS(shmheap_aligned_alloc(mem, 2 * MIB, SIZE_MAX / 2) == NULL, ENOMEM);
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

/* The handle of a freed object is refused, also when another object lies there. */
static void stale_handles(const char *heap) {
    static const size_t sizes[] = {8, 64, 1000, 300000, 1000000};
    shmheap_memory_handle mem = create(heap, 8 * MIB);
    size_t index;
    CHECK_FAILS(shmheap_handle_to_ptr(mem, 0) == NULL, EINVAL);
    CHECK_FAILS(shmheap_handle_to_ptr(mem, 1) == NULL, EINVAL);
    CHECK_FAILS(shmheap_handle_to_ptr(mem, SIZE_MAX) == NULL, EINVAL);
    for (index = 0; index < sizeof sizes / sizeof *sizes; index++) {
        void *object = shmheap_alloc(mem, sizes[index]), *later;
        shmheap_object_handle hdl = shmheap_ptr_to_handle(mem, object), later_hdl;
        CHECK(object && hdl && shmheap_handle_to_ptr(mem, hdl) == object);
        shmheap_free(mem, object);
        CHECK_FAILS(shmheap_handle_to_ptr(mem, hdl) == NULL, ESTALE);
        do {
            later = shmheap_alloc(mem, sizes[index]);
            CHECK(later != NULL);
        } while (later != object);
        later_hdl = shmheap_ptr_to_handle(mem, later);
        CHECK(later_hdl != hdl && shmheap_handle_to_ptr(mem, later_hdl) == later);
        CHECK_FAILS(shmheap_handle_to_ptr(mem, hdl) == NULL, ESTALE);
        CHECK_FAILS(shmheap_handle_to_ptr(mem, hdl + 4) == NULL, ESTALE);
    }
    CHECK(strlen(shmheap_strerror(ESTALE)) > 10);
    shmheap_destroy(heap, mem);
}

static void refuse(shmheap_memory_handle mem, void *pointer) {
    CHECK_REFUSES(shmheap_free(mem, pointer), EINVAL);
    CHECK_FAILS(shmheap_realloc(mem, pointer, 8) == NULL, EINVAL);
    CHECK_FAILS(shmheap_usable_size(mem, pointer) == 0, EINVAL);
    CHECK_FAILS(shmheap_ptr_to_handle(mem, pointer) == 0, EINVAL);
}

/* Freed twice, inside an object, of another heap, of another mapping, of no heap. */
static void wrong_pointers(const char *heap) {
    static const size_t sizes[] = {24, 100, 3000, 200000, 1000000};
    shmheap_memory_handle mem = create(heap, 8 * MIB), twin = shmheap_connect(heap), other;
    char name[256], *base = (char *)shmheap_underlying(mem);
    size_t index, byte;
    int local = 0;
    snprintf(name, sizeof name, "%s-other", heap);
    other = create(name, MIB);
    CHECK(twin && base);
    refuse(mem, &local);
    refuse(mem, (void *)(uintptr_t)8);
    refuse(mem, base - 8);
    refuse(mem, base + 8 * MIB);
    for (index = 0; index < sizeof sizes / sizeof *sizes; index++) {
        unsigned char *object = (unsigned char *)shmheap_alloc(mem, sizes[index]), *freed;
        CHECK(object);
        memset(object, 0xab, sizes[index]);
        for (byte = 1; byte < sizes[index]; byte += 1 + byte / 8) {
            refuse(mem, object + byte);
        }
        refuse(twin, object);
        refuse(other, object);
        refuse(mem, shmheap_alloc(other, 40));
        freed = (unsigned char *)shmheap_alloc(mem, sizes[index]);
        shmheap_free(mem, freed);
        refuse(mem, freed);
        for (byte = 0; byte < sizes[index]; byte++) {
            CHECK(object[byte] == 0xab);
        }
    }
    CHECK(shmheap_check(mem) == 0 && shmheap_check(other) == 0);
    CHECK(statistics_of(mem).live_objects == sizeof sizes / sizeof *sizes);
    shmheap_destroy(name, other);
    shmheap_disconnect(twin);
    shmheap_destroy(heap, mem);
}

static void succeed(pid_t child) {
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Children use the handle of the parent's heap, and each frees what the other allocated. */
static void forked(const char *heap) {
    enum { CHILDREN = 8, ROUNDS = 2000 };
    shmheap_memory_handle mem = create(heap, 16 * MIB);
    char *mine = (char *)shmheap_alloc(mem, 100);
    int up[2], index, round;
    pid_t child[CHILDREN];
    CHECK(mine && pipe(up) == 0);
    strcpy(mine, "of the parent");
    for (index = 0; index < CHILDREN; index++) {
        child[index] = fork();
        if (child[index] == 0) {
            shmheap_object_handle hdl;
            for (round = 0; round < ROUNDS; round++) {
                size_t size = 16 + (size_t)(round * 7 + index) % 300;
                unsigned char *object = (unsigned char *)shmheap_alloc(mem, size);
                CHECK(object != NULL);
                memset(object, index + 1, size);
                CHECK(object[0] == index + 1 && object[size - 1] == index + 1);
                shmheap_free(mem, object);
            }
            CHECK(strcmp(mine, "of the parent") == 0);
            hdl = shmheap_ptr_to_handle(mem, strcpy((char *)shmheap_alloc(mem, 10), "a child's"));
            CHECK(write(up[1], &hdl, sizeof hdl) == sizeof hdl);
            if (index % 2 == 0) {
                shmheap_disconnect(mem);
                CHECK_FAILS(shmheap_alloc(mem, 8) == NULL, EINVAL);
            }
            _exit(0);
        }
    }
    for (index = 0; index < CHILDREN; index++) {
        shmheap_object_handle hdl;
        char *object;
        CHECK(read(up[0], &hdl, sizeof hdl) == sizeof hdl);
        object = (char *)shmheap_handle_to_ptr(mem, hdl);
        CHECK(object && strcmp(object, "a child's") == 0);
        shmheap_free(mem, object);
    }
    for (index = 0; index < CHILDREN; index++) {
        succeed(child[index]);
    }
    shmheap_free(mem, mine);
    CHECK(statistics_of(mem).live_objects == 0);
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

/* A process killed as it allocates and frees costs the others nothing but what it held. */
static void killed(const char *heap) {
    enum { VICTIMS = 12, HELD = 20 };
    shmheap_memory_handle mem = create(heap, 16 * MIB);
    int index;
    for (index = 0; index < VICTIMS; index++) {
        int ready[2];
        char byte;
        pid_t victim;
        CHECK(pipe(ready) == 0);
        victim = fork();
        if (victim == 0) {
            void *held[HELD] = {NULL};
            unsigned round;
            for (round = 0;; round++) {
                shmheap_free(mem, held[round % HELD]);
                held[round % HELD] = shmheap_alloc(mem, (size_t)round * 97 % (4 * UNIT));
                if (round == 100) {
                    CHECK(write(ready[1], "", 1) == 1);
                }
            }
        }
        CHECK(read(ready[0], &byte, 1) == 1);
        CHECK(kill(victim, SIGKILL) == 0 && waitpid(victim, NULL, 0) == victim);
        close(ready[0]);
        close(ready[1]);
        CHECK(shmheap_alloc(mem, 48) != NULL);
        CHECK(shmheap_check(mem) == 0);
        CHECK(statistics_of(mem).live_objects <= (uint64_t)(index + 1) * (HELD + 2));
    }
    shmheap_destroy(heap, mem);
}

/* Memory goes back to the system and comes again; the heap keeps its length. */
static void trimmed(const char *heap) {
    shmheap_memory_handle mem = create(heap, 16 * MIB), first_fit;
    char *object = (char *)shmheap_alloc(mem, 10 * MIB), *small = (char *)shmheap_alloc(mem, 10);
    char name[256];
    CHECK(object && small);
    strcpy(small, "stays");
    memset(object, 1, 10 * MIB);
    CHECK(statistics_of(mem).trimmed_bytes == 0);
    shmheap_free(mem, object);
    CHECK(shmheap_trim(mem) >= 10 * MIB);
    CHECK(statistics_of(mem).trimmed_bytes >= 10 * MIB);
    CHECK(statistics_of(mem).len == 16 * MIB);
    CHECK(strcmp(small, "stays") == 0);
    errno = 0;
    CHECK(shmheap_trim(mem) == 0 && errno == 0);
    object = (char *)shmheap_alloc(mem, 10 * MIB);
    CHECK(object != NULL && object[5 * MIB] == 0);
    memset(object, 1, 10 * MIB);
    CHECK(statistics_of(mem).trimmed_bytes < 10 * MIB);
    CHECK(shmheap_check(mem) == 0);

    snprintf(name, sizeof name, "%s-other", heap);
    first_fit = shmheap_create(name, MIB);
    errno = 0;
    CHECK(first_fit && shmheap_trim(first_fit) == 0 && errno == 0);
    shmheap_destroy(name, first_fit);
    shmheap_destroy(heap, mem);
}

/* A full heap says so, stays usable, and holds what it should. */
static void full(const char *heap) {
    enum { SIZE = 1000, COUNT_MAX = 4 * MIB / SIZE };
    static void *object[COUNT_MAX];
    shmheap_memory_handle mem = create(heap, 4 * MIB);
    size_t count = 0, index;
    while (count < COUNT_MAX && (object[count] = shmheap_alloc(mem, SIZE)) != NULL) {
        count++;
    }
    CHECK(errno == ENOMEM && count > COUNT_MAX * 9 / 10);
    CHECK_FAILS(shmheap_alloc(mem, SIZE) == NULL, ENOMEM);
    CHECK_FAILS(shmheap_alloc(mem, 2 * UNIT) == NULL, ENOMEM);
    CHECK_FAILS(shmheap_alloc(mem, SIZE_MAX) == NULL, ENOMEM);
    CHECK_FAILS(shmheap_alloc(mem, 4 * MIB + 1) == NULL, ENOMEM);
    CHECK(shmheap_check(mem) == 0);
    for (index = 0; index < count; index += 2) {
        shmheap_free(mem, object[index]);
        object[index] = shmheap_alloc(mem, SIZE);
        CHECK(object[index] != NULL);
    }
    for (index = 0; index < count; index++) {
        shmheap_free(mem, object[index]);
    }
    CHECK(statistics_of(mem).live_objects == 0);
    CHECK(shmheap_alloc(mem, 4 * MIB) != NULL); /* what the slabs had can be had whole */
    shmheap_destroy(heap, mem);
}

/* Lengths are whole units; growth goes in units as well. */
static void grows(const char *heap) {
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    shmheap_memory_handle mem, other;
    char *object;
    options.len = 1;
    options.max_len = 40 * MIB;
    options.policy = SHMHEAP_POLICY_SCALABLE;
    mem = shmheap_create_with(heap, &options);
    other = shmheap_connect(heap);
    CHECK(mem && other);
    CHECK(statistics_of(mem).len == UNIT && statistics_of(mem).max_len == 40 * MIB);
    CHECK(shmheap_grow(mem, 3 * UNIT + 1) == 4 * UNIT);
    object = (char *)shmheap_alloc(mem, 20 * MIB); /* grows by itself */
    CHECK(object != NULL);
    object[20 * MIB - 1] = 9;
    object = (char *)shmheap_handle_to_ptr(other, shmheap_ptr_to_handle(mem, object));
    CHECK(object && object[20 * MIB - 1] == 9);
    shmheap_free(other, object);
    CHECK_FAILS(shmheap_grow(mem, 41 * MIB) == 0, EINVAL);
    CHECK(shmheap_check(mem) == 0);
    shmheap_disconnect(other);
    shmheap_destroy(heap, mem);
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"sizes", sizes},
        {"zeroed", zeroed},
        {"resized", resized},
        {"aligned", aligned},
        {"stale_handles", stale_handles},
        {"wrong_pointers", wrong_pointers},
        {"forked", forked},
        {"killed", killed},
        {"trimmed", trimmed},
        {"full", full},
        {"grows", grows},
    };
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
