/* The two structs that may grow: programs and library of different versions; every field. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a program compiled with a later header passes. */
struct newer_options {
    shmheap_options known;
    uint64_t unknown[4];
};

struct newer_statistics {
    shmheap_statistics known;
    uint64_t unknown[4];
};

static void accept(const char *heap, const shmheap_options *options) {
    shmheap_memory_handle mem = shmheap_create_with(heap, options);
    CHECK(mem != NULL);
    shmheap_destroy(heap, mem);
}

static void refuse(const char *heap, const shmheap_options *options) {
    CHECK_FAILS(shmheap_create_with(heap, options) == NULL, EINVAL);
    CHECK_FAILS(shmheap_connect(heap) == NULL, ENOENT);
}

static void versions(const char *heap) {
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    struct newer_options newer;
    size_t size;
    options.len = 4096;
    accept(heap, &options);
    refuse(heap, NULL);

    /* An older program: fields beyond its size are not read. */
    options.group = 12345;
    options.reserved = 1;
    options.flags = 0;
    options.size = offsetof(shmheap_options, group);
    accept(heap, &options);
    options.policy = options.flags = options.mode = options.granule = 77;
    options.max_len = 1;
    options.size = offsetof(shmheap_options, max_len);
    accept(heap, &options);

    /* Sizes that no version has. */
    for (size = 0; size < offsetof(shmheap_options, max_len); size++) {
        options.size = size;
        refuse(heap, &options);
    }
    options.size = 4097;
    refuse(heap, &options);
    options.size = SIZE_MAX;
    refuse(heap, &options);

    /* A newer program: what it sets beyond this version must be 0. */
    memset(&newer, 0, sizeof newer);
    newer.known.size = sizeof newer;
    newer.known.len = 4096;
    accept(heap, &newer.known);
    newer.unknown[3] = (uint64_t)1 << 63;
    refuse(heap, &newer.known);
    newer.known.size = offsetof(struct newer_options, unknown[3]);
    accept(heap, &newer.known);
}

static void wrong_values(const char *heap) {
    const shmheap_options init = SHMHEAP_OPTIONS_INIT;
    shmheap_options options = init;
    refuse(heap, &options); /* len 0 */
    options.len = 4096;
    options.granule = 7;
    refuse(heap, &options);
    options.granule = 32;
    refuse(heap, &options);
    options.granule = 0;
    options.policy = 3;
    refuse(heap, &options);
    options.policy = SHMHEAP_POLICY_FIRST_FIT;
    options.mode = 010000;
    refuse(heap, &options);
    options.mode = 0;
    options.max_len = 4000; /* less than len */
    refuse(heap, &options);
    options.max_len = 0;
    options.flags = SHMHEAP_READ_ONLY; /* makes no sense for a new heap */
    refuse(heap, &options);
    options.flags = 0x80000000u;
    refuse(heap, &options);
    options.flags = 0;
    options.group = 1; /* without its flag */
    refuse(heap, &options);
    options.group = 0;
    options.reserved = 1;
    refuse(heap, &options);
    options.reserved = 0;
    accept(heap, &options);
    options.flags = SHMHEAP_FILE;
    CHECK_FAILS(shmheap_create_memfd(&options) == NULL, EINVAL);
    CHECK_FAILS(shmheap_connect_with(heap, SHMHEAP_SET_GROUP) == NULL, EINVAL);
    CHECK_FAILS(shmheap_connect_with(heap, 1u << 31) == NULL, EINVAL);
    CHECK_FAILS(shmheap_destroy_with(heap, NULL, SHMHEAP_READ_ONLY) == -1, EINVAL);
}

static void granules(const char *heap) {
    static const struct {
        uint32_t option;
        size_t granule;
    } cases[] = {{0, 16}, {8, 8}, {16, 16}};
    size_t index;
    for (index = 0; index < 3; index++) {
        shmheap_options options = SHMHEAP_OPTIONS_INIT;
        shmheap_memory_handle mem;
        char *one, *two;
        options.len = 4096;
        options.granule = cases[index].option;
        mem = shmheap_create_with(heap, &options);
        CHECK(mem);
        one = (char *)shmheap_alloc(mem, 1);
        two = (char *)shmheap_alloc(mem, 1);
        CHECK((uintptr_t)one % cases[index].granule == 0);
        CHECK((size_t)(two - one) == cases[index].granule);
        CHECK(shmheap_usable_size(mem, one) == cases[index].granule);
        shmheap_destroy(heap, mem);
    }
}

static void check_owner(shmheap_memory_handle mem, mode_t mode) {
    struct stat status;
    int fd = shmheap_fd(mem);
    CHECK(fd >= 0 && fstat(fd, &status) == 0);
    CHECK((status.st_mode & 07777) == mode);
    CHECK(status.st_gid == getegid());
    close(fd);
}

static void mode_and_group(const char *heap) {
    static const mode_t modes[] = {0600, 0660, 0666, 0640};
    static const mode_t masks[] = {0, 022, 077};
    shmheap_memory_handle mem;
    size_t mode, mask;
    for (mask = 0; mask < 3; mask++) {
        umask(masks[mask]);
        mem = shmheap_create(heap, 4096);
        CHECK(mem);
        check_owner(mem, 0600);
        shmheap_destroy(heap, mem);
        for (mode = 0; mode < 4; mode++) {
            shmheap_options options = SHMHEAP_OPTIONS_INIT;
            options.len = 4096;
            options.mode = modes[mode];
            options.flags = SHMHEAP_SET_GROUP;
            options.group = getegid();
            mem = shmheap_create_with(heap, &options);
            CHECK(mem);
            check_owner(mem, modes[mode]);
            shmheap_destroy(heap, mem);
        }
    }
}

/* The fields up to here are the same in every call: asking may count as an operation. */
#define STABLE offsetof(shmheap_statistics, operations)

static void statistics(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, 65536);
    shmheap_statistics full = SHMHEAP_STATISTICS_INIT, older;
    struct newer_statistics newer;
    size_t size;
    CHECK(mem && shmheap_alloc(mem, 1000) && shmheap_alloc(mem, 1));
    CHECK(shmheap_stats(mem, &full) == 0);
    CHECK(full.size == sizeof full && full.len == 65536 && full.max_len == 65536);
    CHECK(full.live_bytes == 1008 && full.live_objects == 2);
    CHECK(full.free_bytes == 65536 - 1008 && full.largest_free == full.free_bytes);
    CHECK(full.metadata_bytes > 0 && full.operations >= 2);
    CHECK(full.peers_alive == 1 && full.peers_dead == 0);
    CHECK(full.tail_bytes == 0 && full.trimmed_bytes == 0);

    for (size = 16; size < sizeof older; size += 8) {
        memset(&older, 0xee, sizeof older);
        older.size = size;
        CHECK(shmheap_stats(mem, &older) == 0);
        CHECK(older.size == size);
        CHECK(memcmp(&older.len, &full.len, size < STABLE ? size - 8 : STABLE - 8) == 0);
        CHECK(((unsigned char *)&older)[size] == 0xee); /* not a byte more than it has */
    }
    memset(&newer, 0xee, sizeof newer);
    newer.known.size = sizeof newer;
    CHECK(shmheap_stats(mem, &newer.known) == 0);
    CHECK(memcmp(&newer.known.len, &full.len, STABLE - 8) == 0);
    CHECK(newer.known.peers_alive == 1 && newer.known.peers_dead == 0);
    for (size = 0; size < 4; size++) {
        CHECK(newer.unknown[size] == 0);
    }
    CHECK_FAILS(shmheap_stats(mem, NULL) == -1, EINVAL);
    full.size = 0;
    CHECK_FAILS(shmheap_stats(mem, &full) == -1, EINVAL);
    full.size = 1 << 20;
    CHECK_FAILS(shmheap_stats(mem, &full) == -1, EINVAL);
    shmheap_destroy(heap, mem);
}

static void ephemeral(const char *heap) {
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    shmheap_memory_handle first, second;
    options.len = 4096;
    options.flags = SHMHEAP_EPHEMERAL;
    first = shmheap_create_with(heap, &options);
    second = shmheap_connect(heap);
    CHECK(first && second);
    shmheap_disconnect(first);
    first = shmheap_connect(heap);
    CHECK(first);
    shmheap_disconnect(second);
    shmheap_disconnect(first);
    CHECK_FAILS(shmheap_connect(heap) == NULL, ENOENT);
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"versions", versions}, {"wrong_values", wrong_values},     {"granules", granules},
        {"statistics", statistics}, {"mode_and_group", mode_and_group}, {"ephemeral", ephemeral},
    };
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
