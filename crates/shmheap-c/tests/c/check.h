/* Checks for the test programs: the first that fails ends the program and says where. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <shmheap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not true: %s (errno %d, last error '%s')\n", __FILE__,         \
                    __LINE__, #condition, errno, shmheap_last_error());                            \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* The condition says that the call failed; it must set errno to `expected` and leave a new text. */
#define CHECK_FAILS(condition, expected)                                                           \
    do {                                                                                           \
        forget_last_error();                                                                       \
        errno = 0;                                                                                 \
        CHECK(condition);                                                                          \
        CHECK(errno == (expected));                                                                \
        CHECK(strcmp(shmheap_last_error(), FORGOTTEN) != 0);                                       \
        CHECK(strlen(shmheap_last_error()) > 10);                                                  \
    } while (0)

/* A void function fails by doing nothing but setting errno. */
#define CHECK_REFUSES(call, expected) CHECK_FAILS(((call), errno != 0), expected)

/* A text that no failing call but this one gives. */
#define FORGOTTEN "the name is NULL"

static inline void forget_last_error(void) {
    if (shmheap_connect(NULL) != NULL || strcmp(shmheap_last_error(), FORGOTTEN) != 0) {
        fprintf(stderr, "connecting to NULL gave '%s'\n", shmheap_last_error());
        exit(1);
    }
}

/* Runs the case that the first argument names. */
struct test_case {
    const char *name;
    void (*run)(const char *heap);
};

static inline int run_case(const struct test_case *cases, size_t count, int argc, char **argv) {
    size_t index;
    for (index = 0; argc == 3 && index < count; index++) {
        if (strcmp(argv[1], cases[index].name) == 0) {
            cases[index].run(argv[2]);
            return 0;
        }
    }
    fprintf(stderr, "usage: %s CASE HEAP\n", argv[0]);
    return 2;
}

#endif
