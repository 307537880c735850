/*
 * A producer in C whose consumer is written in Rust: crates/shmheap/examples/sensor.rs.
 *
 *   cc sensor.c $(pkg-config --cflags --libs shmheap) -o sensor
 *   ./sensor /sensor &
 *   cargo run --release --example sensor -- /sensor
 *
 * The producer makes the heap, sends samples through a channel, and keeps totals under a mutex. In
 * the end it closes the channel. The consumer compares what it got with the totals, and removes the
 * heap.
 */
#include <shmheap.h>

#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES = 10000, IN_FLIGHT = 64 };

/* The same as in Rust: no padding, types of a fixed size. */
struct sample {
    uint64_t number;
    double value;
};

struct totals {
    shmheap_mutex mutex;
    uint64_t count;
    double sum;
};

static void stop(const char *what) {
    fprintf(stderr, "sensor: cannot %s: %s\n", what, shmheap_last_error());
    exit(EXIT_FAILURE);
}

int main(int argc, char **argv) {
    shmheap_memory_handle mem;
    shmheap_object_handle channel;
    struct totals *totals;
    uint64_t number;
    if (argc != 2) {
        fprintf(stderr, "usage: %s HEAP\n", argv[0]);
        return 2;
    }
    mem = shmheap_create(argv[1], 1 << 20);
    if (mem == NULL) {
        stop("create the heap");
    }
    totals = (struct totals *)shmheap_calloc(mem, 1, sizeof *totals);
    if (totals == NULL || shmheap_root_set(mem, "totals", totals) != 0) {
        stop("name the totals");
    }
    channel = shmheap_channel_open(mem, "samples", IN_FLIGHT, sizeof(struct sample));
    if (channel == 0) {
        stop("open the channel");
    }
    puts("ready");
    fflush(stdout);
    for (number = 0; number < SAMPLES; number++) {
        struct sample sample;
        sample.number = number;
        sample.value = (double)(number % 100) / 4;
        /* Nobody else changes the totals, so nobody can have left them half changed. */
        if (shmheap_mutex_lock(mem, &totals->mutex, -1) != 0) {
            stop("lock the totals");
        }
        totals->count++;
        totals->sum += sample.value;
        shmheap_mutex_unlock(mem, &totals->mutex);
        if (shmheap_channel_send(mem, channel, &sample, sizeof sample, -1) != 0) {
            stop("send a sample");
        }
    }
    shmheap_channel_close(mem, channel);
    shmheap_disconnect(mem);
    return 0;
}
