/*
 * Processes that share nothing but a heap's name and pipes: handles travel as raw bytes.
 *
 *   exchange create HEAP      creates the heap and ends
 *   exchange produce HEAP N   writes N handles to standard output
 *   exchange change HEAP      reads handles, replaces each object by a larger one, writes those
 *   exchange consume HEAP N   reads handles, verifies and frees the objects, counts to N
 *   exchange empty HEAP LEN   checks that the heap is empty again
 *   exchange destroy HEAP     removes the heap without connecting
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <unistd.h>

enum { LEN = 4 << 20 };

static shmheap_memory_handle connect_to(const char *heap) {
    shmheap_memory_handle mem = shmheap_connect(heap);
    CHECK(mem != NULL);
    return mem;
}

static void send_handle(shmheap_object_handle hdl) {
    CHECK(hdl != 0);
    CHECK(write(STDOUT_FILENO, &hdl, sizeof hdl) == (ssize_t)sizeof hdl);
}

/* Whether there was another handle. */
static int receive_handle(shmheap_object_handle *hdl) {
    size_t have = 0;
    while (have < sizeof *hdl) {
        ssize_t got = read(STDIN_FILENO, (char *)hdl + have, sizeof *hdl - have);
        CHECK(got >= 0);
        if (got == 0) {
            CHECK(have == 0);
            return 0;
        }
        have += (size_t)got;
    }
    return 1;
}

static size_t size_of_object(unsigned number, unsigned stage) {
    return sizeof(unsigned) + number % 97 + stage * 100;
}

static void fill(unsigned char *object, unsigned number, unsigned stage) {
    memcpy(object, &number, sizeof number);
    memset(object + sizeof number, (int)(number & 0xff),
           size_of_object(number, stage) - sizeof number);
}

/* Checks an object's content and returns its number. */
static unsigned verify(const unsigned char *object, unsigned stage) {
    unsigned number;
    size_t index;
    CHECK(object != NULL);
    memcpy(&number, object, sizeof number);
    for (index = sizeof number; index < size_of_object(number, stage); index++) {
        CHECK(object[index] == (number & 0xff));
    }
    return number;
}

static void produce(const char *heap, unsigned count) {
    shmheap_memory_handle mem = connect_to(heap);
    unsigned number;
    for (number = 0; number < count; number++) {
        unsigned char *object = (unsigned char *)shmheap_alloc(mem, size_of_object(number, 0));
        CHECK(object != NULL);
        fill(object, number, 0);
        send_handle(shmheap_ptr_to_handle(mem, object));
    }
    shmheap_disconnect(mem);
}

static void change(const char *heap) {
    shmheap_memory_handle mem = connect_to(heap);
    shmheap_object_handle hdl;
    while (receive_handle(&hdl)) {
        unsigned char *object = (unsigned char *)shmheap_handle_to_ptr(mem, hdl);
        unsigned number = verify(object, 0);
        shmheap_free(mem, object);
        object = (unsigned char *)shmheap_alloc(mem, size_of_object(number, 1));
        CHECK(object != NULL);
        fill(object, number, 1);
        send_handle(shmheap_ptr_to_handle(mem, object));
    }
    shmheap_disconnect(mem);
}

static void consume(const char *heap, unsigned count) {
    shmheap_memory_handle mem = connect_to(heap);
    shmheap_object_handle hdl;
    unsigned number = 0;
    while (receive_handle(&hdl)) {
        unsigned char *object = (unsigned char *)shmheap_handle_to_ptr(mem, hdl);
        CHECK(verify(object, 1) == number);
        shmheap_free(mem, object);
        number++;
    }
    CHECK(number == count);
    shmheap_disconnect(mem);
}

int main(int argc, char **argv) {
    CHECK(argc >= 3);
    if (strcmp(argv[1], "create") == 0) {
        CHECK(shmheap_create(argv[2], LEN) != NULL);
    } else if (strcmp(argv[1], "produce") == 0) {
        produce(argv[2], (unsigned)atoi(argv[3]));
    } else if (strcmp(argv[1], "change") == 0) {
        change(argv[2]);
    } else if (strcmp(argv[1], "consume") == 0) {
        consume(argv[2], (unsigned)atoi(argv[3]));
    } else if (strcmp(argv[1], "empty") == 0) {
        CHECK(shmheap_alloc(connect_to(argv[2]), LEN - 80) != NULL);
    } else if (strcmp(argv[1], "destroy") == 0) {
        errno = 0;
        shmheap_destroy(argv[2], NULL);
        CHECK(errno == 0);
    } else {
        return 2;
    }
    return 0;
}
