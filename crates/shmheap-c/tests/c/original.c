/*
 * What programs written for the original nine functions rely on, within one process.
 *
 * This file uses nothing but those nine functions, and ISO C: it is such a program.
 */
#include <errno.h>
#include <shmheap.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);              \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define RECORDS_MAX 80
#define DISTANCE_MAX 16
#define PAGE 4096

static size_t offset_of(shmheap_memory_handle mem, void *object) {
    return (size_t)((char *)object - (char *)shmheap_underlying(mem));
}

static size_t rounded(size_t size) {
    return (size + 7) / 8 * 8;
}

/* Whether any mapping of this process contains the address. */
static int is_mapped(void *address) {
    char line[512];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        char *end;
        unsigned long long first = strtoull(line, &end, 16);
        unsigned long long last = strtoull(end + 1, NULL, 16);
        found |= first <= (uintptr_t)address && (uintptr_t)address < last;
    }
    fclose(maps);
    return found;
}

static int name_exists(const char *heap) {
    char path[512];
    FILE *object;
    snprintf(path, sizeof path, "/dev/shm%s", heap);
    object = fopen(path, "r");
    if (object != NULL) {
        fclose(object);
    }
    return object != NULL;
}

/* Both handle types are scalars that travel as raw bytes. */
static void handles_are_scalars(const char *heap) {
    unsigned char bytes[sizeof(shmheap_memory_handle) + sizeof(shmheap_object_handle)];
    shmheap_memory_handle mem = shmheap_create(heap, PAGE), mem_copy = 0;
    shmheap_object_handle hdl, hdl_copy = 0;
    int *object;
    CHECK(mem);
    object = (int *)shmheap_alloc(mem, sizeof *object);
    *object = 4711;
    hdl = shmheap_ptr_to_handle(mem, object);
    CHECK(hdl != 0);
    memcpy(bytes, &mem, sizeof mem);
    memcpy(bytes + sizeof mem, &hdl, sizeof hdl);
    memcpy(&mem_copy, bytes, sizeof mem);
    memcpy(&hdl_copy, bytes + sizeof mem, sizeof hdl);
    CHECK(shmheap_handle_to_ptr(mem_copy, hdl_copy) == object);
    CHECK(*(int *)shmheap_handle_to_ptr(mem_copy, hdl_copy) == 4711);
    shmheap_destroy(heap, mem_copy);
}

/* The first object's place does not depend on the length; any length works. */
static void lengths(const char *heap) {
    static const size_t lengths[] = {96, 3024, PAGE, 5000, 2 * PAGE, 65536, 1 << 20, 64 << 20};
    size_t first = 0, index;
    for (index = 0; index < sizeof lengths / sizeof *lengths; index++) {
        size_t len = lengths[index];
        shmheap_memory_handle mem = shmheap_create(heap, len);
        char *object;
        CHECK(mem);
        object = (char *)shmheap_alloc(mem, len - RECORDS_MAX);
        CHECK(object != NULL);
        memset(object, 0x5a, len - RECORDS_MAX);
        CHECK(offset_of(mem, object) <= RECORDS_MAX);
        CHECK(offset_of(mem, object) % 8 == 0);
        CHECK(index == 0 || offset_of(mem, object) == first);
        first = offset_of(mem, object);
        shmheap_free(mem, object);
        shmheap_destroy(heap, mem);
    }
}

/* A length that is no multiple of 8 is rounded up, not refused and not cut. */
static void odd_lengths(const char *heap) {
    size_t len;
    for (len = 3001; len < 3009; len++) {
        shmheap_memory_handle mem = shmheap_create(heap, len);
        CHECK(mem);
        CHECK(shmheap_alloc(mem, rounded(len) - RECORDS_MAX) != NULL);
        shmheap_destroy(heap, mem);
    }
}

/* Every size up to len - 80 fits an empty heap, and leaves it empty again. */
static void every_size_fits(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, 3024);
    size_t size;
    CHECK(mem);
    for (size = 0; size <= 3024 - RECORDS_MAX; size++) {
        void *object = shmheap_alloc(mem, size);
        CHECK(object != NULL);
        CHECK((uintptr_t)object % 8 == 0);
        memset(object, 1, size);
        shmheap_free(mem, object);
    }
    shmheap_destroy(heap, mem);
}

/* The distance of neighbours, beyond the rounded size, is the same for every size. */
static void distances(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, 1 << 20);
    size_t size, distance = 0;
    CHECK(mem);
    for (size = 1; size <= 1000; size++) {
        char *one = (char *)shmheap_alloc(mem, size);
        char *two = (char *)shmheap_alloc(mem, 1);
        char *three = (char *)shmheap_alloc(mem, 1);
        size_t beyond = (size_t)(two - one) - rounded(size);
        CHECK(one && two && three);
        CHECK(beyond <= DISTANCE_MAX);
        CHECK(size == 1 || beyond == distance);
        distance = beyond;
        CHECK((size_t)(three - two) == 8 + distance); /* the smallest block */
        shmheap_free(mem, two);
        shmheap_free(mem, one);
        shmheap_free(mem, three);
    }
    shmheap_destroy(heap, mem);
}

/* The lowest address that holds the size, whatever holes come after it. */
static void first_fit(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, 2 * PAGE);
    char *object[8];
    size_t index;
    CHECK(mem);
    for (index = 0; index < 8; index++) {
        object[index] = (char *)shmheap_alloc(mem, 104);
        CHECK(index == 0 || object[index] > object[index - 1]);
    }
    shmheap_free(mem, object[5]);
    shmheap_free(mem, object[1]);
    shmheap_free(mem, object[3]);
    CHECK(shmheap_alloc(mem, 64) == object[1]); /* not the best fit, not the latest: the lowest */
    CHECK(shmheap_alloc(mem, 104) == object[3]);
    CHECK(shmheap_alloc(mem, 200) > (void *)object[7]); /* no hole holds it */
    CHECK(shmheap_alloc(mem, 97) == object[5]);
    shmheap_destroy(heap, mem);
}

/* A freed object joins with free neighbours before and after it. */
static void joins_both_sides(const char *heap) {
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    shmheap_memory_handle mem = shmheap_create(heap, 2 * PAGE);
    size_t order;
    CHECK(mem);
    for (order = 0; order < 6; order++) {
        char *object[3], *wall;
        size_t index;
        for (index = 0; index < 3; index++) {
            object[index] = (char *)shmheap_alloc(mem, 200);
        }
        wall = (char *)shmheap_alloc(mem, 8);
        for (index = 0; index < 3; index++) {
            shmheap_free(mem, object[orders[order][index]]);
        }
        CHECK(shmheap_alloc(mem, 600) == object[0]);
        shmheap_free(mem, object[0]);
        shmheap_free(mem, wall);
    }
    CHECK(shmheap_alloc(mem, 2 * PAGE - RECORDS_MAX) != NULL);
    shmheap_destroy(heap, mem);
}

/* NULL when full; the heap stays usable. */
static void full(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, 64 * 1024);
    void *object[1024], *kept;
    size_t count = 0, index;
    CHECK(mem);
    CHECK(shmheap_alloc(mem, 64 * 1024 + 1) == NULL);
    errno = 0;
    while ((object[count] = shmheap_alloc(mem, 1000)) != NULL) {
        memset(object[count], (int)count, 1000);
        CHECK(errno == 0);
        CHECK(++count < 1024);
    }
    CHECK(errno == ENOMEM);
    CHECK(count >= 63);
    kept = object[count / 2];
    shmheap_free(mem, kept);
    CHECK(shmheap_alloc(mem, 1000) == kept);
    memset(kept, (int)(count / 2), 1000);
    for (index = 0; index < count; index++) {
        CHECK(((unsigned char *)object[index])[999] == (unsigned char)index);
        shmheap_free(mem, object[index]);
    }
    CHECK(shmheap_alloc(mem, 64 * 1024 - RECORDS_MAX) != NULL);
    shmheap_destroy(heap, mem);
}

/* Size 0 gives an object of its own; freeing NULL is nothing to do. */
static void nothing(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, PAGE);
    void *one, *two;
    CHECK(mem);
    one = shmheap_alloc(mem, 0);
    two = shmheap_alloc(mem, 0);
    CHECK(one && two && one != two);
    CHECK(shmheap_handle_to_ptr(mem, shmheap_ptr_to_handle(mem, two)) == two);
    errno = 0;
    shmheap_free(mem, NULL);
    CHECK(errno == 0);
    shmheap_free(mem, one);
    CHECK(shmheap_alloc(mem, 0) == one);
    shmheap_destroy(heap, mem);
}

/* Disconnect unmaps and keeps; destroy unmaps and leaves nothing. */
static void unmaps(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, PAGE), second;
    void *base = shmheap_underlying(mem);
    shmheap_object_handle hdl;
    int *object = (int *)shmheap_alloc(mem, sizeof *object);
    CHECK(mem && base && object);
    *object = 99;
    hdl = shmheap_ptr_to_handle(mem, object);
    CHECK(is_mapped(base));
    CHECK(name_exists(heap));
    shmheap_disconnect(mem);
    CHECK(!is_mapped(base));
    CHECK(name_exists(heap));

    second = shmheap_connect(heap);
    CHECK(second);
    CHECK(*(int *)shmheap_handle_to_ptr(second, hdl) == 99);
    base = shmheap_underlying(second);
    shmheap_destroy(heap, second);
    CHECK(!is_mapped(base));
    CHECK(!name_exists(heap));
    CHECK(shmheap_connect(heap) == NULL);
    CHECK(errno == ENOENT);
}

/* Several heaps in one process do not mix; two connections to one heap share it. */
static void several(const char *heap) {
    enum { COUNT = 40 };
    shmheap_memory_handle mem[COUNT], again;
    char name[COUNT][64];
    int *object[COUNT], index;
    for (index = 0; index < COUNT; index++) {
        snprintf(name[index], sizeof name[index], "%s-%d", heap, index);
        mem[index] = shmheap_create(name[index], PAGE);
        CHECK(mem[index]);
        object[index] = (int *)shmheap_alloc(mem[index], sizeof(int));
        *object[index] = index;
    }
    for (index = 0; index < COUNT; index++) {
        shmheap_object_handle hdl = shmheap_ptr_to_handle(mem[index], object[index]);
        CHECK(hdl == shmheap_ptr_to_handle(mem[0], object[0])); /* same place in each */
        CHECK(*(int *)shmheap_handle_to_ptr(mem[index], hdl) == index);
    }
    again = shmheap_connect(name[7]);
    CHECK(again && again != mem[7]);
    CHECK(shmheap_underlying(again) != shmheap_underlying(mem[7]));
    CHECK(*(int *)shmheap_handle_to_ptr(again, shmheap_ptr_to_handle(mem[7], object[7])) == 7);
    shmheap_disconnect(again);
    for (index = 0; index < COUNT; index++) {
        CHECK(*object[index] == index);
        shmheap_destroy(name[index], mem[index]);
    }
}

/* A standing heap is not overwritten by another create, and errno says why. */
static void errors(const char *heap) {
    shmheap_memory_handle mem;
    int *object;
    CHECK(shmheap_connect(heap) == NULL && errno == ENOENT);
    errno = 0;
    mem = shmheap_create(heap, PAGE);
    CHECK(mem && errno == 0);
    object = (int *)shmheap_alloc(mem, sizeof *object);
    *object = 5;
    CHECK(shmheap_create(heap, PAGE) == NULL && errno == EEXIST);
    CHECK(*object == 5);
    errno = 0;
    shmheap_destroy(heap, mem);
    CHECK(errno == 0);
    shmheap_destroy(heap, NULL);
    CHECK(errno == ENOENT);
}

struct test_case {
    const char *name;
    void (*run)(const char *heap);
};

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"handles_are_scalars", handles_are_scalars},
        {"lengths", lengths},
        {"odd_lengths", odd_lengths},
        {"every_size_fits", every_size_fits},
        {"distances", distances},
        {"first_fit", first_fit},
        {"joins_both_sides", joins_both_sides},
        {"full", full},
        {"nothing", nothing},
        {"unmaps", unmaps},
        {"several", several},
        {"errors", errors},
    };
    size_t index;
    for (index = 0; argc == 3 && index < sizeof cases / sizeof *cases; index++) {
        if (strcmp(argv[1], cases[index].name) == 0) {
            cases[index].run(argv[2]);
            return 0;
        }
    }
    fprintf(stderr, "usage: %s CASE HEAP\n", argv[0]);
    return 2;
}
