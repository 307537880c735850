/* The functions beyond the original nine. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <fcntl.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LEN = 1 << 16 };

static void zeroed(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN);
    unsigned char *object = (unsigned char *)shmheap_alloc(mem, 1000);
    int index;
    CHECK(mem && object);
    memset(object, 0xff, 1000);
    shmheap_free(mem, object);
    CHECK(shmheap_calloc(mem, 10, 100) == object);
    for (index = 0; index < 1000; index++) {
        CHECK(object[index] == 0);
    }
    CHECK(shmheap_calloc(mem, 0, 100) != NULL);
    CHECK(shmheap_calloc(mem, 100, 0) != NULL);
    shmheap_destroy(heap, mem);
}

static void resized(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN);
    unsigned char *object = (unsigned char *)shmheap_realloc(mem, NULL, 100), *moved;
    void *wall;
    int index;
    CHECK(mem && object);
    for (index = 0; index < 100; index++) {
        object[index] = (unsigned char)index;
    }
    CHECK(shmheap_realloc(mem, object, 200) == object); /* room behind it */
    CHECK(shmheap_usable_size(mem, object) == 200);
    CHECK(shmheap_realloc(mem, object, 100) == object);
    CHECK(shmheap_usable_size(mem, object) == 104);
    wall = shmheap_alloc(mem, 8);
    CHECK(wall > (void *)object);
    moved = (unsigned char *)shmheap_realloc(mem, object, 300);
    CHECK(moved != NULL && moved != object);
    for (index = 0; index < 100; index++) {
        CHECK(moved[index] == index);
    }
    CHECK(shmheap_alloc(mem, 100) == object); /* the old place is free */
    CHECK(shmheap_realloc(mem, moved, 0) != NULL);
    CHECK(shmheap_usable_size(mem, moved) == 8 && moved[7] == 7);
    errno = 0;
    CHECK(shmheap_usable_size(mem, NULL) == 0 && errno == 0);
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

static void aligned(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN);
    size_t alignment;
    CHECK(mem && shmheap_alloc(mem, 8));
    for (alignment = 1; alignment <= 4096; alignment *= 2) {
        void *object = shmheap_aligned_alloc(mem, alignment, 3 * alignment + 1);
        CHECK(object != NULL && (uintptr_t)object % alignment == 0);
        CHECK((uintptr_t)object % 8 == 0);
        CHECK(shmheap_usable_size(mem, object) >= 3 * alignment + 1);
        memset(object, 1, 3 * alignment + 1);
        shmheap_free(mem, object);
    }
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

static void grows(const char *heap) {
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    shmheap_memory_handle mem, other;
    void *object;
    options.len = LEN;
    options.max_len = 64 * LEN;
    mem = shmheap_create_with(heap, &options);
    other = shmheap_connect(heap);
    CHECK(mem && other);
    CHECK(shmheap_grow(mem, 4 * LEN) >= 4 * LEN);
    object = shmheap_alloc(mem, 3 * LEN);
    CHECK(object != NULL);
    memset(object, 9, 3 * LEN);
    object = shmheap_handle_to_ptr(other, shmheap_ptr_to_handle(mem, object));
    CHECK(object && ((char *)object)[3 * LEN - 1] == 9); /* the other need not notice */
    CHECK(shmheap_alloc(other, 32 * LEN) != NULL); /* grows by itself */
    CHECK_FAILS(shmheap_grow(mem, 65 * LEN) == 0, EINVAL);
    CHECK_FAILS(shmheap_alloc(mem, 40 * LEN) == NULL, ENOMEM);
    CHECK(shmheap_check(mem) == 0);
    shmheap_disconnect(other);
    shmheap_destroy(heap, mem);
}

static void read_only(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN), reader;
    int *object = (int *)shmheap_alloc(mem, sizeof *object);
    shmheap_object_handle hdl = shmheap_ptr_to_handle(mem, object);
    shmheap_statistics statistics = SHMHEAP_STATISTICS_INIT;
    CHECK(mem && object);
    *object = 31;
    reader = shmheap_connect_with(heap, SHMHEAP_READ_ONLY);
    CHECK(reader);
    object = (int *)shmheap_handle_to_ptr(reader, hdl);
    CHECK(object && *object == 31);
    CHECK_FAILS(shmheap_alloc(reader, 8) == NULL, EROFS);
    CHECK_FAILS(shmheap_realloc(reader, object, 80) == NULL, EROFS);
    CHECK_REFUSES(shmheap_free(reader, object), EROFS);
    CHECK_FAILS(shmheap_grow(reader, 2 * LEN) == 0, EROFS);
    CHECK_FAILS(shmheap_trim(reader) == 0, EROFS);
    CHECK(shmheap_stats(reader, &statistics) == 0 && statistics.live_objects == 1);
    CHECK(shmheap_check(reader) == 0);
    shmheap_disconnect(reader);
    shmheap_destroy(heap, mem);
}

static void in_a_file(const char *heap) {
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    shmheap_memory_handle mem, reader;
    shmheap_object_handle hdl;
    char path[256], *object;
    snprintf(path, sizeof path, "/tmp%s.heap", heap);
    options.len = LEN;
    options.flags = SHMHEAP_FILE;
    mem = shmheap_create_with(path, &options);
    CHECK(mem);
    CHECK_FAILS(shmheap_create_with(path, &options) == NULL, EEXIST);
    object = (char *)shmheap_alloc(mem, 6);
    strcpy(object, "hello");
    hdl = shmheap_ptr_to_handle(mem, object);
    shmheap_disconnect(mem);
    mem = shmheap_connect_with(path, SHMHEAP_FILE);
    reader = shmheap_connect_with(path, SHMHEAP_FILE | SHMHEAP_READ_ONLY);
    CHECK(mem && reader);
    object = (char *)shmheap_handle_to_ptr(reader, hdl);
    CHECK(object && strcmp(object, "hello") == 0);
    CHECK_FAILS(shmheap_alloc(reader, 8) == NULL, EROFS);
    shmheap_disconnect(reader);
    CHECK(shmheap_destroy_with(path, mem, SHMHEAP_FILE) == 0);
    CHECK(access(path, F_OK) == -1);
    CHECK_FAILS(shmheap_connect_with(path, SHMHEAP_FILE) == NULL, ENOENT);
    CHECK_FAILS(shmheap_destroy_with(path, NULL, SHMHEAP_FILE) == -1, ENOENT);
}

static const char *program;

/* A heap without a name, inherited by an exec'd program as a descriptor. */
static void memfd(const char *heap) {
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    shmheap_memory_handle mem, second;
    char argument[64];
    int fd, status, *object;
    pid_t child;
    (void)heap;
    options.len = LEN;
    mem = shmheap_create_memfd(&options);
    CHECK(mem);
    object = (int *)shmheap_alloc(mem, sizeof *object);
    *object = 1;
    fd = shmheap_fd(mem);
    CHECK(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    second = shmheap_connect_fd(fd);
    CHECK(second && shmheap_underlying(second) != shmheap_underlying(mem));
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC); /* still the caller's */
    shmheap_disconnect(second);
    CHECK(fcntl(fd, F_SETFD, 0) == 0);
    snprintf(argument, sizeof argument, "%d,%lu", fd,
             (unsigned long)shmheap_ptr_to_handle(mem, object));
    child = fork();
    if (child == 0) {
        execl(program, program, "memfd_child", argument, (char *)NULL);
        _exit(127);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(*object == 2);
    close(fd);
    shmheap_disconnect(mem);
    CHECK_FAILS(shmheap_connect_fd(fd) == NULL, EBADF);
    CHECK_FAILS(shmheap_connect_fd(-1) == NULL, EBADF);
    CHECK_FAILS(shmheap_connect_fd(STDIN_FILENO) == NULL, EBADF);
}

static void memfd_child(const char *argument) {
    unsigned long hdl;
    int fd, *object;
    shmheap_memory_handle mem;
    CHECK(sscanf(argument, "%d,%lu", &fd, &hdl) == 2);
    mem = shmheap_connect_fd(fd);
    CHECK(mem);
    object = (int *)shmheap_handle_to_ptr(mem, hdl);
    CHECK(object && *object == 1);
    *object = 2;
}

/* As many heaps as a process may want. */
static void thousands_of_heaps(const char *heap) {
    enum { COUNT = 4096 };
    static shmheap_memory_handle mem[COUNT];
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    int index;
    (void)heap;
    options.len = 4096;
    for (index = 0; index < COUNT; index++) {
        int *object;
        mem[index] = shmheap_create_memfd(&options);
        if (mem[index] == NULL && errno == EMFILE) {
            break; /* the limit of descriptors is lower here */
        }
        CHECK(mem[index] != NULL);
        object = (int *)shmheap_alloc(mem[index], sizeof *object);
        CHECK(object);
        *object = index;
    }
    CHECK(index >= 200);
    while (index-- > 0) {
        CHECK(*(int *)shmheap_underlying(mem[index]) == index);
        shmheap_disconnect(mem[index]);
    }
}

/* The audit counts what it finds and tells the first. */
static void audit(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN);
    char path[256];
    FILE *object;
    long offset, length;
    int findings = 0;
    CHECK(mem && shmheap_alloc(mem, 100) && shmheap_check(mem) == 0);
    snprintf(path, sizeof path, "/dev/shm%s", heap);
    object = fopen(path, "r+");
    CHECK(object && fseek(object, 0, SEEK_END) == 0);
    length = ftell(object);
    /* Flips metadata, word by word, until something is noticed. */
    for (offset = 4096; offset < length - LEN && findings == 0; offset += 8) {
        char before[8], after[8];
        int index;
        CHECK(fseek(object, offset, SEEK_SET) == 0 && fread(before, 8, 1, object) == 1);
        for (index = 0; index < 8; index++) {
            after[index] = (char)(before[index] ^ 0xff);
        }
        CHECK(fseek(object, offset, SEEK_SET) == 0 && fwrite(after, 8, 1, object) == 1);
        CHECK(fflush(object) == 0);
        CHECK(strcmp(shmheap_last_error(), "") == 0);
        errno = 0;
        findings = shmheap_check(mem);
        CHECK(findings >= 0);
        if (findings > 0) {
            CHECK(errno == EUCLEAN && strlen(shmheap_last_error()) > 10);
        }
        CHECK(fseek(object, offset, SEEK_SET) == 0 && fwrite(before, 8, 1, object) == 1);
        CHECK(fflush(object) == 0);
    }
    CHECK(findings > 0);
    fclose(object);
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

static void texts(const char *heap) {
    static const int known[] = {0,      EINVAL, EEXIST, ENOENT, EACCES, EBADF,
                                ENOSPC, ENOMEM, EROFS,  EPROTO, ESTALE, EDOM, -5};
    char version[32];
    size_t index;
    CHECK(strcmp(shmheap_last_error(), "") == 0);
    CHECK_FAILS(shmheap_connect(heap) == NULL, ENOENT);
    errno = 77;
    for (index = 0; index < sizeof known / sizeof *known; index++) {
        CHECK(shmheap_strerror(known[index])[0] != 0);
    }
    snprintf(version, sizeof version, "%d.%d.%d", SHMHEAP_VERSION_MAJOR, SHMHEAP_VERSION_MINOR,
             SHMHEAP_VERSION_PATCH);
    CHECK(strcmp(version, SHMHEAP_VERSION_STRING) == 0);
    CHECK(strcmp(version, shmheap_version()) == 0);
    CHECK(errno == 77);
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"zeroed", zeroed},
        {"resized", resized},
        {"aligned", aligned},
        {"grows", grows},
        {"read_only", read_only},
        {"in_a_file", in_a_file},
        {"memfd", memfd},
        {"memfd_child", memfd_child},
        {"thousands_of_heaps", thousands_of_heaps},
        {"audit", audit},
        {"texts", texts},
    };
    program = argv[0];
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
