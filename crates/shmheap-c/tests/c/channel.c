/* Channels: messages of bytes from process to process. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <sys/wait.h>
#include <unistd.h>

enum { LEN = 1 << 20, MESSAGES = 20000 };

struct message {
    uint64_t number;
    char text[20];
};

/* Room for a message of the channel, which is a multiple of 8 bytes. */
union room {
    struct message message;
    char bytes[(sizeof(struct message) + 7) / 8 * 8];
};

static shmheap_object_handle opened(shmheap_memory_handle mem, size_t capacity) {
    shmheap_object_handle channel =
        shmheap_channel_open(mem, "messages", capacity, sizeof(struct message));
    CHECK(channel != 0);
    return channel;
}

static void messages(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN);
    shmheap_object_handle channel = opened(mem, 4);
    struct message message = {7, "seven"};
    union room room;
    int number;
    CHECK(opened(mem, 99) == channel);
    CHECK_FAILS(shmheap_channel_recv(mem, channel, &room, sizeof room, 0) == -1, ETIMEDOUT);
    for (number = 0; number < 4; number++) {
        message.number = (uint64_t)number;
        CHECK(shmheap_channel_send(mem, channel, &message, sizeof message, 0) == 0);
    }
    CHECK_FAILS(shmheap_channel_send(mem, channel, &message, sizeof message, 0) == -1, ETIMEDOUT);
    for (number = 0; number < 4; number++) {
        memset(&room, 0xff, sizeof room);
        CHECK(shmheap_channel_recv(mem, channel, &room, sizeof room, -1) == 1);
        CHECK(room.message.number == (uint64_t)number);
        CHECK(strcmp(room.message.text, "seven") == 0);
    }
    /* A shorter one is filled up. */
    CHECK(shmheap_channel_send(mem, channel, &message.number, sizeof message.number, -1) == 0);
    CHECK(shmheap_channel_recv(mem, channel, &room, sizeof room, -1) == 1);
    CHECK(room.message.number == 3 && room.message.text[0] == 0);
    CHECK(shmheap_root_remove(mem, "messages") == 0);
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

static void closed(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN);
    shmheap_object_handle channel = opened(mem, 4);
    struct message message = {1, "last"};
    union room room;
    CHECK(shmheap_channel_send(mem, channel, &message, sizeof message, -1) == 0);
    CHECK(shmheap_channel_close(mem, channel) == 0);
    CHECK_FAILS(shmheap_channel_send(mem, channel, &message, sizeof message, -1) == -1, EPIPE);
    CHECK(shmheap_channel_recv(mem, channel, &room, sizeof room, -1) == 1);
    CHECK(shmheap_channel_recv(mem, channel, &room, sizeof room, -1) == 0);
    shmheap_destroy(heap, mem);
}

static void wrong_arguments(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN), reader;
    shmheap_object_handle channel = opened(mem, 4), other;
    int *object = (int *)shmheap_alloc(mem, sizeof *object);
    union room room;
    memset(&room, 0, sizeof room);
    CHECK_FAILS(shmheap_channel_open(mem, NULL, 4, 8) == 0, EINVAL);
    CHECK_FAILS(shmheap_channel_open(mem, "", 4, 8) == 0, EINVAL);
    CHECK_FAILS(shmheap_channel_open(mem, "a", 0, 8) == 0, EINVAL);
    CHECK_FAILS(shmheap_channel_open(mem, "a", (size_t)-1, 8) == 0, EINVAL);
    CHECK_FAILS(shmheap_channel_open(mem, "a", 4, (size_t)-1) == 0, EINVAL);
    CHECK_FAILS(shmheap_channel_open(mem, "messages", 4, 100) == 0, EPROTOTYPE);
    CHECK(shmheap_root_set(mem, "object", object) == 0);
    CHECK_FAILS(shmheap_channel_open(mem, "object", 4, 8) == 0, EPROTOTYPE);
    other = shmheap_ptr_to_handle(mem, object);
    CHECK_FAILS(shmheap_channel_send(mem, other, &room, 1, 0) == -1, EPROTOTYPE);
    CHECK_FAILS(shmheap_channel_send(mem, 0, &room, 1, 0) == -1, EINVAL);
    CHECK_FAILS(shmheap_channel_send(mem, channel, NULL, 1, 0) == -1, EINVAL);
    CHECK_FAILS(shmheap_channel_send(mem, channel, &room, 1000, 0) == -1, EINVAL);
    CHECK_FAILS(shmheap_channel_recv(mem, channel, NULL, sizeof room, 0) == -1, EINVAL);
    CHECK_FAILS(shmheap_channel_recv(mem, channel, &room, 8, 0) == -1, EINVAL);
    CHECK_FAILS(shmheap_channel_close(mem, other) == -1, EPROTOTYPE);
    CHECK(shmheap_channel_send(mem, channel, NULL, 0, 0) == 0); /* a message of zeros */
    reader = shmheap_connect_with(heap, SHMHEAP_READ_ONLY);
    CHECK(reader != NULL);
    CHECK_FAILS(shmheap_channel_recv(reader, channel, &room, sizeof room, 0) == -1, EROFS);
    CHECK_FAILS(shmheap_channel_close(reader, channel) == -1, EROFS);
    shmheap_disconnect(reader);
    shmheap_destroy(heap, mem);
}

static void two_processes(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN);
    uint64_t number;
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        shmheap_object_handle channel = opened(mem, 16);
        struct message message;
        memset(&message, 0, sizeof message);
        for (number = 0; number < MESSAGES; number++) {
            message.number = number;
            CHECK(shmheap_channel_send(mem, channel, &message, sizeof message, -1) == 0);
        }
        CHECK(shmheap_channel_close(mem, channel) == 0);
        _exit(0);
    }
    {
        shmheap_object_handle channel = opened(mem, 16);
        union room room;
        number = 0;
        while (shmheap_channel_recv(mem, channel, &room, sizeof room, -1) == 1) {
            CHECK(room.message.number == number);
            number++;
        }
        CHECK(number == MESSAGES);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    shmheap_destroy(heap, mem);
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"messages", messages},
        {"closed", closed},
        {"wrong_arguments", wrong_arguments},
        {"two_processes", two_processes},
    };
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
