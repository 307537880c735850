/* Tags, quotas and usage of heaps with labels. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <shmheap/labels.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { QUOTA = 10000 };

static const uint32_t policies[] = {SHMHEAP_POLICY_FIRST_FIT, SHMHEAP_POLICY_SCALABLE};

static shmheap_memory_handle created(const char *heap, uint32_t policy, uint32_t flags) {
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    shmheap_memory_handle mem;
    options.len = 4 << 20;
    options.policy = policy;
    options.flags = flags;
    mem = shmheap_create_with(heap, &options);
    CHECK(mem != NULL);
    return mem;
}

/* What a visit looks for, and what it finds. */
struct search {
    uint32_t kind;
    const char *tag;
    uint32_t pid;
    int found;
    shmheap_usage_entry entry;
};

static int search_one(const shmheap_usage_entry *entry, void *context) {
    struct search *search = (struct search *)context;
    CHECK((entry->tag != NULL) == (entry->kind == SHMHEAP_QUOTA_TAG));
    if (entry->kind == search->kind && (search->pid == 0 || entry->pid == search->pid) &&
        (search->tag == NULL || strcmp(entry->tag, search->tag) == 0)) {
        search->entry = *entry;
        search->found++;
    }
    return 0;
}

static shmheap_usage_entry usage_of(shmheap_memory_handle mem, uint32_t kind, const char *tag,
                                    uint32_t pid) {
    struct search search = {0};
    search.kind = kind;
    search.tag = tag;
    search.pid = pid;
    CHECK(shmheap_usage(mem, search_one, &search) == 0);
    CHECK(search.found == 1);
    return search.entry;
}

static uint64_t objects_of(shmheap_memory_handle mem, const char *tag) {
    return usage_of(mem, SHMHEAP_QUOTA_TAG, tag, 0).objects;
}

static void tags(const char *heap) {
    size_t policy;
    for (policy = 0; policy < 2; policy++) {
        shmheap_memory_handle mem = created(heap, policies[policy], SHMHEAP_LABELS);
        shmheap_memory_handle twin = shmheap_connect(heap);
        void *object;
        CHECK(twin);
        CHECK(shmheap_alloc(mem, 10) && objects_of(mem, "") == 1);
        errno = 77;
        CHECK(shmheap_tag_push(mem, "outer") == 0 && shmheap_tag_push(twin, "inner") == 0);
        CHECK(errno == 77); /* success leaves it alone */
        object = shmheap_alloc(mem, 100);
        CHECK(object && objects_of(twin, "inner") == 1 && objects_of(mem, "outer") == 0);
        CHECK(shmheap_tag_pop(mem) == 0); /* the heap's, through whichever connection */
        object = shmheap_realloc(mem, object, 90);
        CHECK(object && objects_of(mem, "inner") + objects_of(mem, "outer") == 1);
        CHECK(shmheap_alloc(mem, 100) && objects_of(mem, "outer") >= 1);
        CHECK(shmheap_set_thread_tag(mem, "thread") == 0);
        CHECK(shmheap_alloc(mem, 100) && objects_of(mem, "outer") >= 2);
        CHECK(shmheap_tag_pop(twin) == 0);
        CHECK(shmheap_alloc(mem, 100) && objects_of(mem, "thread") == 1);
        CHECK(shmheap_set_thread_tag(mem, NULL) == 0);
        CHECK(shmheap_alloc(mem, 100) && objects_of(mem, "") == 2);
        CHECK_FAILS(shmheap_tag_pop(mem) == -1, EINVAL);
        shmheap_free(mem, object);
        CHECK(shmheap_check(mem) == 0);
        shmheap_disconnect(twin);
        shmheap_destroy(heap, mem);
    }
}

/* Allocates until there is an error, and tells how many bytes it got. */
static uint64_t fill(shmheap_memory_handle mem) {
    uint64_t bytes = 0;
    void *object;
    while ((object = shmheap_alloc(mem, 96)) != NULL) {
        bytes += shmheap_usable_size(mem, object);
    }
    return bytes;
}

static void quotas(const char *heap) {
    static const uint32_t kinds[] = {SHMHEAP_QUOTA_HEAP, SHMHEAP_QUOTA_PEER, SHMHEAP_QUOTA_TAG};
    size_t run;
    for (run = 0; run < 6; run++) {
        shmheap_memory_handle mem = created(heap, policies[run % 2], SHMHEAP_LABELS);
        uint32_t kind = kinds[run / 2];
        const char *tag = kind == SHMHEAP_QUOTA_TAG ? "parser" : NULL;
        shmheap_usage_entry entry;
        uint64_t bytes;
        CHECK(shmheap_set_quota(mem, kind, tag, QUOTA) == 0);
        CHECK(shmheap_tag_push(mem, "parser") == 0);
        bytes = fill(mem);
        CHECK(errno == EDQUOT && bytes <= QUOTA && bytes > QUOTA - 128);
        CHECK(strstr(shmheap_last_error(), "may have 10000 bytes") != NULL);
        CHECK_FAILS(shmheap_calloc(mem, 100, 100) == NULL, EDQUOT);
        CHECK(strstr(shmheap_strerror(EDQUOT), "quota") != NULL);
        entry = usage_of(mem, kind, tag, 0);
        CHECK(entry.bytes == bytes && entry.quota == QUOTA);
        CHECK(shmheap_set_quota(mem, kind, tag, SHMHEAP_NO_QUOTA) == 0);
        CHECK(shmheap_calloc(mem, 100, 100) != NULL);
        CHECK(usage_of(mem, kind, tag, 0).quota == SHMHEAP_NO_QUOTA);
        CHECK(shmheap_tag_pop(mem) == 0);
        CHECK(shmheap_check(mem) == 0);
        shmheap_destroy(heap, mem);
    }
}

static int stop(const shmheap_usage_entry *entry, void *context) {
    CHECK(entry->kind == SHMHEAP_QUOTA_HEAP);
    ++*(int *)context;
    return 5;
}

static void wrong_arguments(const char *heap) {
    shmheap_memory_handle mem = created(heap, SHMHEAP_POLICY_SCALABLE, SHMHEAP_LABELS), reader;
    char long_tag[50];
    int number = 0;
    memset(long_tag, 't', sizeof long_tag - 1);
    long_tag[sizeof long_tag - 1] = 0;
    CHECK_FAILS(shmheap_tag_push(NULL, "a") == -1, EINVAL);
    CHECK_FAILS(shmheap_tag_push(mem, NULL) == -1, EINVAL);
    CHECK_FAILS(shmheap_tag_push(mem, long_tag) == -1, EINVAL);
    CHECK_FAILS(shmheap_tag_push(mem, "\n") == -1, EINVAL);
    CHECK_FAILS(shmheap_tag_push(mem, "\xff") == -1, EINVAL);
    CHECK_FAILS(shmheap_tag_pop(NULL) == -1, EINVAL);
    CHECK_FAILS(shmheap_tag_pop(mem) == -1, EINVAL);
    CHECK_FAILS(shmheap_set_thread_tag(NULL, "a") == -1, EINVAL);
    CHECK_FAILS(shmheap_set_thread_tag(mem, long_tag) == -1, EINVAL);
    CHECK_FAILS(shmheap_set_thread_tag(mem, "\xff") == -1, EINVAL);
    CHECK_FAILS(shmheap_set_quota(NULL, SHMHEAP_QUOTA_HEAP, NULL, 1) == -1, EINVAL);
    CHECK_FAILS(shmheap_set_quota(mem, 0, NULL, 1) == -1, EINVAL);
    CHECK_FAILS(shmheap_set_quota(mem, 4, NULL, 1) == -1, EINVAL);
    CHECK_FAILS(shmheap_set_quota(mem, SHMHEAP_QUOTA_HEAP, "a", 1) == -1, EINVAL);
    CHECK_FAILS(shmheap_set_quota(mem, SHMHEAP_QUOTA_PEER, "", 1) == -1, EINVAL);
    CHECK_FAILS(shmheap_set_quota(mem, SHMHEAP_QUOTA_TAG, NULL, 1) == -1, EINVAL);
    CHECK_FAILS(shmheap_set_quota(mem, SHMHEAP_QUOTA_TAG, long_tag, 1) == -1, EINVAL);
    CHECK_FAILS(shmheap_usage(NULL, stop, &number) == -1, EINVAL);
    CHECK_FAILS(shmheap_usage(mem, NULL, NULL) == -1, EINVAL);
    CHECK(shmheap_usage(mem, stop, &number) == 5 && number == 1);
    for (number = 0; number < 255; number++) {
        char tag[32];
        sprintf(tag, "tag %d", number);
        CHECK(shmheap_set_quota(mem, SHMHEAP_QUOTA_TAG, tag, 1) == 0);
    }
    CHECK_FAILS(shmheap_tag_push(mem, "another") == -1, EUSERS);
    CHECK_FAILS(shmheap_tag_pop(mem) == -1, EINVAL); /* what failed was not pushed */
    reader = shmheap_connect_with(heap, SHMHEAP_READ_ONLY);
    CHECK_FAILS(shmheap_set_quota(reader, SHMHEAP_QUOTA_HEAP, NULL, 1) == -1, EROFS);
    CHECK(shmheap_tag_push(reader, "a") == 0 && shmheap_tag_pop(reader) == 0);
    CHECK(objects_of(reader, "tag 0") == 0);
    shmheap_disconnect(reader);
    shmheap_destroy(heap, mem);
}

static void without_labels(const char *heap) {
    shmheap_memory_handle mem = created(heap, SHMHEAP_POLICY_SCALABLE, 0);
    CHECK(shmheap_tag_push(mem, "a") == 0);
    CHECK(shmheap_alloc(mem, 10) != NULL);
    CHECK(shmheap_tag_pop(mem) == 0);
    CHECK_FAILS(shmheap_set_quota(mem, SHMHEAP_QUOTA_HEAP, NULL, 1) == -1, EOPNOTSUPP);
    CHECK_FAILS(shmheap_usage(mem, stop, NULL) == -1, EOPNOTSUPP);
    shmheap_destroy(heap, mem);
}

/* The child's environment names its tag; its objects are counted when it is dead. */
static void killed(const char *heap) {
    size_t policy;
    for (policy = 0; policy < 2; policy++) {
        shmheap_memory_handle mem = created(heap, policies[policy], SHMHEAP_LABELS);
        shmheap_usage_entry entry;
        int line[2], status;
        char byte;
        pid_t child;
        CHECK(pipe(line) == 0);
        child = fork();
        if (child == 0) {
            shmheap_memory_handle own;
            CHECK(setenv("SHMHEAP_TAG", "from outside", 1) == 0);
            own = shmheap_connect(heap);
            CHECK(shmheap_alloc(own, 1000) && shmheap_alloc(own, 10));
            CHECK(write(line[1], "", 1) == 1);
            pause();
            _exit(1);
        }
        CHECK(read(line[0], &byte, 1) == 1);
        entry = usage_of(mem, SHMHEAP_QUOTA_PEER, NULL, (uint32_t)child);
        CHECK(entry.alive == 1 && entry.objects == 2);
        CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child);
        entry = usage_of(mem, SHMHEAP_QUOTA_PEER, NULL, (uint32_t)child);
        CHECK(entry.alive == 0 && entry.objects == 2 && entry.bytes >= 1010);
        CHECK(objects_of(mem, "from outside") == 2);
        close(line[0]);
        close(line[1]);
        CHECK(shmheap_check(mem) == 0);
        shmheap_destroy(heap, mem);
    }
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"tags", tags},
        {"quotas", quotas},
        {"wrong_arguments", wrong_arguments},
        {"without_labels", without_labels},
        {"killed", killed},
    };
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
