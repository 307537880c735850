/* Roots: names in a heap, for other processes to find objects by. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LEN = 1 << 16, NAMES = 50, ROUNDS = 2000 };

static shmheap_memory_handle created(const char *heap, uint32_t policy) {
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    shmheap_memory_handle mem;
    options.len = policy == SHMHEAP_POLICY_SCALABLE ? 4 << 20 : LEN;
    options.policy = policy;
    mem = shmheap_create_with(heap, &options);
    CHECK(mem != NULL);
    return mem;
}

static const uint32_t policies[] = {SHMHEAP_POLICY_FIRST_FIT, SHMHEAP_POLICY_SCALABLE};

static void named(const char *heap) {
    size_t policy;
    for (policy = 0; policy < 2; policy++) {
        shmheap_memory_handle mem = created(heap, policies[policy]);
        shmheap_memory_handle twin = shmheap_connect(heap);
        int *object = (int *)shmheap_alloc(mem, sizeof *object), *other, gone;
        CHECK(object && twin);
        *object = 7;
        CHECK_FAILS(shmheap_root_get(mem, "a") == NULL, ENOENT);
        errno = 77;
        CHECK(shmheap_root_set(mem, "a", object) == 0);
        CHECK(shmheap_root_get(mem, "a") == object);
        CHECK(errno == 77); /* success leaves it alone */
        CHECK_FAILS(shmheap_root_set(mem, "a", object) == -1, EEXIST);
        CHECK(shmheap_root_set(mem, "b", object) == 0); /* one object may have several */
        other = (int *)shmheap_root_get(twin, "a");
        CHECK(other != NULL && other != object && *other == 7);
        CHECK_FAILS(shmheap_root_set(twin, "a", other) == -1, EEXIST);
        CHECK(shmheap_root_remove(twin, "a") == 0);
        CHECK_FAILS(shmheap_root_remove(mem, "a") == -1, ENOENT);
        CHECK_FAILS(shmheap_root_get(mem, "a") == NULL, ENOENT);
        CHECK(*object == 7); /* the object stays */
        CHECK(shmheap_root_set(mem, "a", object) == 0);
        shmheap_free(mem, object); /* too early: the names are still there */
        gone = policies[policy] == SHMHEAP_POLICY_SCALABLE ? ESTALE : EINVAL;
        CHECK_FAILS(shmheap_root_get(mem, "a") == NULL, gone);
        CHECK(shmheap_root_remove(mem, "a") == 0);
        CHECK(shmheap_root_remove(mem, "b") == 0);
        CHECK(shmheap_check(mem) == 0);
        shmheap_disconnect(twin);
        shmheap_destroy(heap, mem);
    }
}

static void wrong_arguments(const char *heap) {
    shmheap_memory_handle mem = created(heap, SHMHEAP_POLICY_FIRST_FIT);
    char *object = (char *)shmheap_alloc(mem, 100), long_name[122];
    int local = 0;
    CHECK(object);
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;
    CHECK_FAILS(shmheap_root_set(mem, NULL, object) == -1, EINVAL);
    CHECK_FAILS(shmheap_root_set(mem, "", object) == -1, EINVAL);
    CHECK_FAILS(shmheap_root_set(mem, long_name, object) == -1, EINVAL);
    CHECK_FAILS(shmheap_root_set(mem, "\xff", object) == -1, EINVAL);
    CHECK_FAILS(shmheap_root_set(mem, "a", NULL) == -1, EINVAL);
    CHECK_FAILS(shmheap_root_set(mem, "a", &local) == -1, EINVAL);
    CHECK_FAILS(shmheap_root_set(mem, "a", object + 8) == -1, EINVAL);
    CHECK_FAILS(shmheap_root_get(mem, NULL) == NULL, EINVAL);
    CHECK_FAILS(shmheap_root_get(mem, "\xff") == NULL, EINVAL);
    CHECK_FAILS(shmheap_root_get(mem, "") == NULL, ENOENT);
    CHECK_FAILS(shmheap_root_get(mem, long_name) == NULL, ENOENT);
    CHECK_FAILS(shmheap_root_remove(mem, NULL) == -1, EINVAL);
    CHECK_FAILS(shmheap_root_remove(mem, "\xff") == -1, EINVAL);
    CHECK_FAILS(shmheap_root_remove(mem, long_name) == -1, ENOENT);
    CHECK_FAILS(shmheap_root_list(mem, NULL, NULL) == -1, EINVAL);
    long_name[120] = 0;
    CHECK(shmheap_root_set(mem, long_name, object) == 0);
    CHECK(shmheap_root_get(mem, long_name) == object);
    CHECK(shmheap_root_set(mem, "\xe2\x82\xac", object) == 0); /* the euro sign */
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

struct listing {
    shmheap_memory_handle mem;
    char **objects;
    int seen[NAMES], count, stop_after;
    jmp_buf *leave;
};

static void name_of(char *name, int number) {
    sprintf(name, "root %d", number);
}

static int count_one(const char *name, void *ptr, void *context) {
    struct listing *listing = (struct listing *)context;
    int number = atoi(name + 5);
    CHECK(strncmp(name, "root ", 5) == 0 && number >= 0 && number < NAMES);
    CHECK(ptr == listing->objects[number]);
    CHECK(listing->seen[number]++ == 0);
    listing->count++;
    if (listing->leave != NULL) {
        longjmp(*listing->leave, 1);
    }
    return listing->count == listing->stop_after ? listing->count : 0;
}

/* Removes what it is called for, and is called for the others all the same. */
static int remove_one(const char *name, void *ptr, void *context) {
    struct listing *listing = (struct listing *)context;
    CHECK(shmheap_root_get(listing->mem, name) == ptr);
    CHECK(shmheap_root_remove(listing->mem, name) == 0);
    shmheap_free(listing->mem, ptr);
    listing->count++;
    return 0;
}

static int disconnect(const char *name, void *ptr, void *context) {
    (void)name, (void)ptr;
    shmheap_disconnect(*(shmheap_memory_handle *)context);
    return -5;
}

static int count_gone(const char *name, void *ptr, void *context) {
    CHECK(strcmp(name, "gone") == 0 && ptr == NULL);
    ++*(int *)context;
    return 0;
}

static void leave(struct listing *listing) {
    jmp_buf back;
    listing->leave = &back;
    if (setjmp(back) == 0) {
        shmheap_root_list(listing->mem, count_one, listing);
        CHECK(!"it does not come back here");
    }
}

static void listed(const char *heap) {
    shmheap_memory_handle mem = created(heap, SHMHEAP_POLICY_FIRST_FIT), twin;
    char *objects[NAMES], name[32];
    struct listing listing = {0}, empty = {0};
    int number;
    void *object;
    listing.mem = mem;
    listing.objects = objects;
    CHECK(shmheap_root_list(mem, count_one, &listing) == 0 && listing.count == 0);
    for (number = 0; number < NAMES; number++) {
        objects[number] = (char *)shmheap_alloc(mem, 8);
        name_of(name, number);
        CHECK(shmheap_root_set(mem, name, objects[number]) == 0);
    }
    empty = listing;
    CHECK(shmheap_root_list(mem, count_one, &listing) == 0 && listing.count == NAMES);
    listing = empty;
    listing.stop_after = 3;
    CHECK(shmheap_root_list(mem, count_one, &listing) == 3 && listing.count == 3);
    for (number = 0; number < 3; number++) {
        listing = empty;
        leave(&listing);
        CHECK(listing.count == 1);
    }
    twin = shmheap_connect(heap);
    CHECK(shmheap_root_list(twin, disconnect, &twin) == -5);
    CHECK_FAILS(shmheap_root_list(twin, disconnect, &twin) == -1, EINVAL);
    listing = empty;
    CHECK(shmheap_root_list(mem, remove_one, &listing) == 0 && listing.count == NAMES);
    listing = empty;
    CHECK(shmheap_root_list(mem, count_one, &listing) == 0 && listing.count == 0);
    object = shmheap_alloc(mem, 8);
    CHECK(shmheap_root_set(mem, "gone", object) == 0);
    shmheap_free(mem, object);
    number = 0;
    CHECK(shmheap_root_list(mem, count_gone, &number) == 0 && number == 1);
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

static void read_only(const char *heap) {
    shmheap_memory_handle mem = created(heap, SHMHEAP_POLICY_SCALABLE), reader;
    struct listing listing = {0};
    char *object = (char *)shmheap_alloc(mem, 8);
    char *objects[1];
    *object = 'x';
    CHECK(shmheap_root_set(mem, "root 0", object) == 0);
    reader = shmheap_connect_with(heap, SHMHEAP_READ_ONLY);
    objects[0] = (char *)shmheap_root_get(reader, "root 0");
    CHECK(objects[0] != NULL && objects[0] != object && *objects[0] == 'x');
    listing.objects = objects;
    CHECK(shmheap_root_list(reader, count_one, &listing) == 0 && listing.count == 1);
    CHECK_FAILS(shmheap_root_set(reader, "b", objects[0]) == -1, EROFS);
    CHECK_FAILS(shmheap_root_remove(reader, "root 0") == -1, EROFS);
    shmheap_disconnect(reader);
    shmheap_destroy(heap, mem);
}

/* Gives and takes the same few names; what has one is the object of one process, as a whole. */
static void give_and_take(const char *heap, int self) {
    shmheap_memory_handle mem = shmheap_connect(heap);
    char name[32];
    int round;
    CHECK(mem);
    for (round = 0; round < ROUNDS; round++) {
        int *object = (int *)shmheap_alloc(mem, 2 * sizeof *object);
        CHECK(object);
        object[0] = self;
        object[1] = round;
        name_of(name, round % 3);
        if (shmheap_root_set(mem, name, object) == 0) {
            int *found = (int *)shmheap_root_get(mem, name);
            CHECK(found == object && found[0] == self && found[1] == round);
            CHECK(shmheap_root_remove(mem, name) == 0);
        } else {
            CHECK(errno == EEXIST);
        }
        shmheap_free(mem, object);
    }
    shmheap_disconnect(mem);
}

static void succeed(pid_t child) {
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int count_any(const char *name, void *ptr, void *context) {
    (void)name, (void)ptr;
    ++*(int *)context;
    return 0;
}

static void two_processes(const char *heap) {
    size_t policy;
    for (policy = 0; policy < 2; policy++) {
        shmheap_memory_handle mem = created(heap, policies[policy]);
        int child_number, count = 0;
        pid_t children[2];
        for (child_number = 0; child_number < 2; child_number++) {
            children[child_number] = fork();
            if (children[child_number] == 0) {
                give_and_take(heap, child_number);
                _exit(0);
            }
        }
        succeed(children[0]);
        succeed(children[1]);
        CHECK(shmheap_root_list(mem, count_any, &count) == 0 && count == 0);
        CHECK(shmheap_check(mem) == 0);
        shmheap_destroy(heap, mem);
    }
}

/* Processes that are killed while they give names leave each name given or free. */
static void killed(const char *heap) {
    shmheap_memory_handle mem = created(heap, SHMHEAP_POLICY_SCALABLE);
    void *object = shmheap_alloc(mem, 8);
    int round;
    for (round = 0; round < 30; round++) {
        int line[2], number, status;
        char byte, name[32];
        pid_t child;
        CHECK(pipe(line) == 0);
        child = fork();
        if (child == 0) {
            for (number = 0;; number++) {
                name_of(name, number % 4);
                if (shmheap_root_set(mem, name, object) != 0) {
                    CHECK(errno == EEXIST);
                    CHECK(shmheap_root_remove(mem, name) == 0);
                }
                CHECK(number != round * 7 || write(line[1], "", 1) == 1);
            }
        }
        CHECK(read(line[0], &byte, 1) == 1);
        CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child);
        CHECK(WIFSIGNALED(status));
        close(line[0]);
        close(line[1]);
        for (number = 0; number < 4; number++) {
            name_of(name, number);
            if (shmheap_root_get(mem, name) == NULL) {
                CHECK(errno == ENOENT);
                CHECK(shmheap_root_set(mem, name, object) == 0);
            }
            CHECK(shmheap_root_get(mem, name) == object);
            CHECK(shmheap_root_remove(mem, name) == 0);
        }
    }
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"named", named},
        {"wrong_arguments", wrong_arguments},
        {"listed", listed},
        {"read_only", read_only},
        {"two_processes", two_processes},
        {"killed", killed},
    };
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
