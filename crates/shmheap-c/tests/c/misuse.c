/* Wrong arguments: an error each time, the heap unharmed, the program goes on. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <stdint.h>

enum { LEN = 1 << 16 };

static int visit_nothing(const char *name, void *ptr, void *context) {
    (void)name, (void)ptr, (void)context;
    return 0;
}

/* Every function that takes a memory handle refuses this one. */
static void refuse_everything(const char *heap, shmheap_memory_handle mem, void *object) {
    shmheap_statistics statistics = SHMHEAP_STATISTICS_INIT;
    CHECK_FAILS(shmheap_underlying(mem) == NULL, EINVAL);
    CHECK_FAILS(shmheap_alloc(mem, 8) == NULL, EINVAL);
    CHECK_FAILS(shmheap_calloc(mem, 1, 8) == NULL, EINVAL);
    CHECK_FAILS(shmheap_aligned_alloc(mem, 64, 8) == NULL, EINVAL);
    CHECK_FAILS(shmheap_realloc(mem, object, 8) == NULL, EINVAL);
    CHECK_FAILS(shmheap_realloc(mem, NULL, 8) == NULL, EINVAL);
    CHECK_FAILS(shmheap_usable_size(mem, object) == 0, EINVAL);
    CHECK_FAILS(shmheap_ptr_to_handle(mem, object) == 0, EINVAL);
    CHECK_FAILS(shmheap_handle_to_ptr(mem, 4096) == NULL, EINVAL);
    CHECK_FAILS(shmheap_grow(mem, LEN) == 0, EINVAL);
    CHECK_FAILS(shmheap_trim(mem) == 0, EINVAL);
    CHECK_FAILS(shmheap_stats(mem, &statistics) == -1, EINVAL);
    CHECK_FAILS(shmheap_check(mem) == -1, EINVAL);
    CHECK_FAILS(shmheap_fd(mem) == -1, EINVAL);
    CHECK_FAILS(shmheap_root_set(mem, "a", object) == -1, EINVAL);
    CHECK_FAILS(shmheap_root_get(mem, "a") == NULL, EINVAL);
    CHECK_FAILS(shmheap_root_remove(mem, "a") == -1, EINVAL);
    CHECK_FAILS(shmheap_root_list(mem, visit_nothing, NULL) == -1, EINVAL);
    CHECK_REFUSES(shmheap_free(mem, object), EINVAL);
    CHECK_REFUSES(shmheap_disconnect(mem), EINVAL);
    if (mem != NULL) {
        CHECK_REFUSES(shmheap_destroy(heap, mem), EINVAL);
        CHECK_FAILS(shmheap_destroy_with(heap, mem, 0) == -1, EINVAL);
    }
}

static void unharmed(shmheap_memory_handle mem, unsigned char *object) {
    void *other = shmheap_alloc(mem, 100);
    size_t index;
    CHECK(other != NULL);
    shmheap_free(mem, other);
    CHECK(shmheap_check(mem) == 0);
    for (index = 0; index < 100; index++) {
        CHECK(object[index] == 0xab);
    }
}

static void memory_handles(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN), stale, live;
    unsigned char *object = (unsigned char *)shmheap_alloc(mem, 100);
    uintptr_t value;
    int bit;
    CHECK(mem && object);
    memset(object, 0xab, 100);
    refuse_everything(heap, NULL, object);
    refuse_everything(heap, (shmheap_memory_handle)(uintptr_t)1, object);
    refuse_everything(heap, (shmheap_memory_handle)(uintptr_t)0xdeadbeef, object);
    refuse_everything(heap, (shmheap_memory_handle)(uintptr_t)-1, object);
    refuse_everything(heap, (shmheap_memory_handle)(void *)&mem, object);
    refuse_everything(heap, (shmheap_memory_handle)(void *)object, object);
    memcpy(&value, &mem, sizeof value);
    for (bit = 0; bit < 64; bit++) {
        refuse_everything(heap, (shmheap_memory_handle)(value ^ (uintptr_t)1 << bit), object);
    }
    unharmed(mem, object);

    stale = shmheap_connect(heap);
    shmheap_disconnect(stale);
    refuse_everything(heap, stale, object);
    live = shmheap_connect(heap); /* takes the stale one's place in the table */
    CHECK(live != stale);
    refuse_everything(heap, stale, object);
    CHECK(shmheap_underlying(live) != NULL);
    shmheap_disconnect(live);
    unharmed(mem, object);
    shmheap_destroy(heap, mem);
    refuse_everything(heap, mem, object);
}

static void refuse_pointer(shmheap_memory_handle mem, void *pointer) {
    CHECK_REFUSES(shmheap_free(mem, pointer), EINVAL);
    CHECK_FAILS(shmheap_realloc(mem, pointer, 8) == NULL, EINVAL);
    CHECK_FAILS(shmheap_usable_size(mem, pointer) == 0, EINVAL);
    CHECK_FAILS(shmheap_ptr_to_handle(mem, pointer) == 0, EINVAL);
}

static void pointers(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN), twin = shmheap_connect(heap);
    unsigned char *object = (unsigned char *)shmheap_alloc(mem, 100), *freed, *wild;
    char *base = (char *)shmheap_underlying(mem);
    int local = 0, index;
    CHECK(mem && twin && object);
    memset(object, 0xab, 100);
    refuse_pointer(mem, &local);
    refuse_pointer(mem, heap == NULL ? NULL : (void *)(uintptr_t)heap);
    refuse_pointer(mem, (void *)(uintptr_t)8);
    refuse_pointer(mem, (void *)(uintptr_t)-8);
    refuse_pointer(mem, base - 8);
    refuse_pointer(mem, base - 4096);
    refuse_pointer(mem, base + LEN);
    refuse_pointer(mem, base + LEN / 2);
    for (index = 1; index < 100; index++) {
        refuse_pointer(mem, object + index);
    }
    refuse_pointer(twin, object); /* the same object, but the other mapping's address */
    freed = (unsigned char *)shmheap_alloc(mem, 50);
    shmheap_free(mem, freed);
    refuse_pointer(mem, freed);
    CHECK_FAILS(shmheap_ptr_to_handle(mem, NULL) == 0, EINVAL);
    wild = (unsigned char *)shmheap_alloc(mem, 3000);
    freed = (unsigned char *)shmheap_alloc(mem, 50);
    shmheap_free(mem, wild);
    shmheap_free(mem, freed); /* joins with the block before it */
    refuse_pointer(mem, freed);
    unharmed(mem, object);
    shmheap_disconnect(twin);
    shmheap_destroy(heap, mem);
}

static void object_handles(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN);
    unsigned char *object = (unsigned char *)shmheap_alloc(mem, 100);
    shmheap_object_handle hdl = shmheap_ptr_to_handle(mem, object);
    size_t index;
    CHECK(mem && object && hdl);
    memset(object, 0xab, 100);
    CHECK_FAILS(shmheap_handle_to_ptr(mem, 0) == NULL, EINVAL);
    CHECK_FAILS(shmheap_handle_to_ptr(mem, 1) == NULL, EINVAL);
    CHECK_FAILS(shmheap_handle_to_ptr(mem, SIZE_MAX) == NULL, EINVAL);
    CHECK_FAILS(shmheap_handle_to_ptr(mem, hdl + LEN) == NULL, EINVAL);
    CHECK_FAILS(shmheap_handle_to_ptr(mem, (size_t)object) == NULL, EINVAL);
    for (index = 1; index < 64; index++) {
        CHECK_FAILS(shmheap_handle_to_ptr(mem, hdl + index) == NULL, EINVAL);
        CHECK_FAILS(shmheap_handle_to_ptr(mem, hdl ^ (size_t)1 << index) == NULL, EINVAL);
    }
    CHECK(shmheap_handle_to_ptr(mem, hdl) == object);
    unharmed(mem, object);
    shmheap_free(mem, object);
    CHECK_FAILS(shmheap_handle_to_ptr(mem, hdl) == NULL, EINVAL);
    shmheap_destroy(heap, mem);
}

static void names(const char *heap) {
    char long_name[400];
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[0] = '/';
    long_name[sizeof long_name - 1] = 0;
    CHECK_FAILS(shmheap_connect(heap) == NULL, ENOENT);
    CHECK(strstr(shmheap_last_error(), heap + 1) != NULL);
    errno = 0;
    CHECK(shmheap_create(NULL, LEN) == NULL && errno == EINVAL);
    CHECK_FAILS(shmheap_create("", LEN) == NULL, EINVAL);
    CHECK_FAILS(shmheap_create("/", LEN) == NULL, EINVAL);
    CHECK_FAILS(shmheap_create("/a/b", LEN) == NULL, EINVAL);
    CHECK_FAILS(shmheap_create("/..", LEN) == NULL, EINVAL);
    CHECK_FAILS(shmheap_connect("/..") == NULL, EINVAL);
    CHECK_FAILS(shmheap_create(long_name, LEN) == NULL, EINVAL);
    CHECK_FAILS(shmheap_connect(long_name) == NULL, EINVAL);
    CHECK_REFUSES(shmheap_destroy(heap, NULL), ENOENT);
    CHECK_REFUSES(shmheap_destroy("/a/b", NULL), EINVAL);
    errno = 0;
    shmheap_destroy(NULL, NULL);
    CHECK(errno == EINVAL);
}

static void sizes(const char *heap) {
    shmheap_memory_handle mem;
    void *object;
    CHECK_FAILS(shmheap_create(heap, 0) == NULL, EINVAL);
    CHECK_FAILS(shmheap_create(heap, SIZE_MAX) == NULL, errno);
    CHECK(errno == EINVAL || errno == ENOMEM || errno == ENOSPC);
    CHECK_FAILS(shmheap_create(heap, SIZE_MAX / 2) == NULL, errno);
    CHECK(errno == EINVAL || errno == ENOMEM || errno == ENOSPC);
    CHECK_FAILS(shmheap_connect(heap) == NULL, ENOENT); /* nothing was left behind */
    mem = shmheap_create(heap, LEN);
    CHECK(mem);
    CHECK_FAILS(shmheap_alloc(mem, SIZE_MAX) == NULL, ENOMEM);
    CHECK_FAILS(shmheap_alloc(mem, SIZE_MAX - 7) == NULL, ENOMEM);
    CHECK_FAILS(shmheap_alloc(mem, SIZE_MAX / 2) == NULL, ENOMEM);
    CHECK_FAILS(shmheap_alloc(mem, SIZE_MAX / 2 - 7) == NULL, ENOMEM);
    CHECK_FAILS(shmheap_alloc(mem, LEN + 1) == NULL, ENOMEM);
    CHECK_FAILS(shmheap_calloc(mem, SIZE_MAX, 2) == NULL, ENOMEM);
    CHECK_FAILS(shmheap_calloc(mem, (size_t)1 << 33, (size_t)1 << 33) == NULL, ENOMEM);
    CHECK_FAILS(shmheap_aligned_alloc(mem, 4096, SIZE_MAX) == NULL, ENOMEM);
    CHECK_FAILS(shmheap_aligned_alloc(mem, 4096, SIZE_MAX / 2 - 4096) == NULL, ENOMEM);
    CHECK_FAILS(shmheap_aligned_alloc(mem, 0, 8) == NULL, EINVAL);
    CHECK_FAILS(shmheap_aligned_alloc(mem, 24, 8) == NULL, EINVAL);
    CHECK_FAILS(shmheap_aligned_alloc(mem, 8192, 8) == NULL, EINVAL);
    object = shmheap_alloc(mem, 40);
    memset(object, 7, 40);
    CHECK_FAILS(shmheap_realloc(mem, object, SIZE_MAX) == NULL, ENOMEM);
    CHECK_FAILS(shmheap_realloc(mem, object, LEN + 1) == NULL, ENOMEM);
    CHECK(((char *)object)[39] == 7 && shmheap_usable_size(mem, object) == 40);
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

/* Objects of that name that are no heaps: an error, and they are left alone. */
static void foreign_objects(const char *heap) {
    static const size_t lengths[] = {0, 1, 100, 4096, 1 << 20};
    char path[512];
    size_t index, byte;
    snprintf(path, sizeof path, "/dev/shm%s", heap);
    for (index = 0; index < sizeof lengths / sizeof *lengths; index++) {
        FILE *object = fopen(path, "w");
        CHECK(object != NULL);
        for (byte = 0; byte < lengths[index]; byte++) {
            fputc((int)(byte * 37 + index) & 0xff, object);
        }
        CHECK(fclose(object) == 0);
        CHECK_FAILS(shmheap_connect(heap) == NULL, EBADF);
        CHECK_FAILS(shmheap_create(heap, LEN) == NULL, EEXIST);
        CHECK_REFUSES(shmheap_destroy(heap, NULL), EBADF);
        object = fopen(path, "r");
        CHECK(object != NULL && fseek(object, 0, SEEK_END) == 0);
        CHECK(ftell(object) == (long)lengths[index]);
        fclose(object);
        CHECK(remove(path) == 0);
    }
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"memory_handles", memory_handles},
        {"pointers", pointers},
        {"object_handles", object_handles},
        {"names", names},
        {"sizes", sizes},
        {"foreign_objects", foreign_objects},
    };
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
