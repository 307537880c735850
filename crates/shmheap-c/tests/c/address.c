/* Heaps that lie at the same address in every process: lists of plain pointers in them. */
#define _DEFAULT_SOURCE
#include "check.h"
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LEN = 1 << 20, NODES = 100 };

struct node {
    struct node *next;
    int number;
};

static const char *program;

/* The root of a list is the first object of a first-fit heap, and lies at its start. */
static struct node *lengthen(shmheap_memory_handle mem, struct node *head) {
    int number;
    for (number = 0; number < NODES; number++) {
        struct node *node = (struct node *)shmheap_alloc(mem, sizeof *node);
        CHECK(node);
        node->next = head;
        node->number = number;
        head = node;
    }
    return head;
}

static int sum(const struct node *node) {
    int total = 0;
    for (; node != NULL; node = node->next) {
        total += node->number;
    }
    return total;
}

static void in_another_program(const char *what, const char *heap) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        execl(program, program, what, heap, (char *)NULL);
        _exit(127);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void pointers(const char *heap) {
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    shmheap_memory_handle mem;
    struct node **root;
    options.len = LEN;
    options.flags = SHMHEAP_SAME_ADDRESS;
    mem = shmheap_create_with(heap, &options);
    CHECK(mem);
    root = (struct node **)shmheap_alloc(mem, sizeof *root);
    CHECK((void *)root == shmheap_underlying(mem));
    *root = lengthen(mem, NULL);
    in_another_program("follow", heap);
    CHECK(sum(*root) == 2 * (NODES * (NODES - 1) / 2));
    CHECK_FAILS(shmheap_connect(heap) == NULL, EADDRINUSE); /* once at a time */
    CHECK(strstr(shmheap_last_error(), "the heap itself") != NULL);
    shmheap_disconnect(mem);
    mem = shmheap_connect(heap);
    CHECK(mem && shmheap_underlying(mem) == (void *)root);
    shmheap_destroy(heap, mem);
}

static void follow(const char *heap) {
    shmheap_memory_handle mem = shmheap_connect(heap);
    struct node **root;
    CHECK(mem);
    root = (struct node **)shmheap_underlying(mem);
    CHECK(sum(*root) == NODES * (NODES - 1) / 2);
    *root = lengthen(mem, *root);
    shmheap_disconnect(mem);
}

static void taken(const char *heap) {
    static const size_t address = (size_t)0x2345 << 32;
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    shmheap_memory_handle mem;
    char *there;
    int policy;
    for (policy = 1; policy <= 2; policy++) {
        options.len = LEN;
        options.policy = (uint32_t)policy;
        options.flags = SHMHEAP_SAME_ADDRESS;
        options.address = address;
        mem = shmheap_create_with(heap, &options);
        CHECK(mem);
        CHECK((uintptr_t)shmheap_underlying(mem) > address);
        CHECK((uintptr_t)shmheap_underlying(mem) < address + (32 << 20));
        shmheap_disconnect(mem);
        there = (char *)mmap((void *)address, 4096, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        CHECK(there == (char *)address);
        *there = 7;
        CHECK_FAILS(shmheap_connect(heap) == NULL, EADDRINUSE);
        CHECK_FAILS(shmheap_connect_with(heap, SHMHEAP_READ_ONLY) == NULL, EADDRINUSE);
        CHECK_FAILS(shmheap_create_memfd(&options) == NULL, EADDRINUSE);
        CHECK(*there == 7);
        CHECK(munmap(there, 4096) == 0);
        mem = shmheap_connect(heap);
        CHECK(mem);
        shmheap_destroy(heap, mem);
    }
    CHECK(strstr(shmheap_strerror(EADDRINUSE), "taken") != NULL);
}

static void wrong_options(const char *heap) {
    static const size_t wrong[] = {1, 4096, ((size_t)0x2345 << 32) + 8, SIZE_MAX};
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    size_t index;
    (void)heap;
    options.len = LEN;
    options.address = (size_t)0x2345 << 32; /* without its flag */
    CHECK_FAILS(shmheap_create_memfd(&options) == NULL, EINVAL);
    CHECK(strstr(shmheap_last_error(), "SHMHEAP_SAME_ADDRESS") != NULL);
    options.flags = SHMHEAP_SAME_ADDRESS;
    for (index = 0; index < sizeof wrong / sizeof *wrong; index++) {
        options.address = wrong[index];
        CHECK_FAILS(shmheap_create_memfd(&options) == NULL, EINVAL);
    }
    CHECK_FAILS(shmheap_connect_with(heap, SHMHEAP_SAME_ADDRESS) == NULL, EINVAL);
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"pointers", pointers},
        {"follow", follow},
        {"taken", taken},
        {"wrong_options", wrong_options},
    };
    program = argv[0];
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
