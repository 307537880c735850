/*
 * Threads on heaps of the scalable policy, where each thread owns memory: they come and go, and the
 * heap may be disconnected before, while and after they end.
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <stdint.h>

enum { THREADS = 6, MIB = 1 << 20 };

static shmheap_memory_handle mem;

static shmheap_memory_handle create(const char *heap) {
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    options.len = 32 * MIB;
    options.policy = SHMHEAP_POLICY_SCALABLE;
    return shmheap_create_with(heap, &options);
}

static uint64_t live_objects(void) {
    shmheap_statistics statistics = SHMHEAP_STATISTICS_INIT;
    CHECK(shmheap_stats(mem, &statistics) == 0);
    return statistics.live_objects;
}

/* Whether any mapping of this process contains the address. */
static int is_mapped(void *address) {
    char line[512];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        char *end;
        unsigned long long first = strtoull(line, &end, 16);
        unsigned long long last = strtoull(end + 1, NULL, 16);
        found |= first <= (uintptr_t)address && (uintptr_t)address < last;
    }
    fclose(maps);
    return found;
}

static pthread_t start(void *(*body)(void *), uintptr_t argument) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, (void *)argument) == 0);
    return thread;
}

static void start_all(pthread_t *threads, void *(*body)(void *)) {
    uintptr_t index;
    for (index = 0; index < THREADS; index++) {
        threads[index] = start(body, index);
    }
}

static void join_all(pthread_t *threads) {
    int index;
    for (index = 0; index < THREADS; index++) {
        CHECK(pthread_join(threads[index], NULL) == 0);
    }
}

/* What each thread hands on to the next, which frees it. */
static void *handed[THREADS];

static void *take_and_leave(void *argument) {
    enum { KEPT = 40 };
    unsigned char *kept[KEPT];
    uintptr_t index = (uintptr_t)argument;
    size_t round;
    shmheap_free(mem, handed[index]);
    for (round = 0; round < KEPT; round++) {
        kept[round] = (unsigned char *)shmheap_alloc(mem, 1 + round * 37);
        CHECK(kept[round] != NULL);
        memset(kept[round], (int)index, 1 + round * 37);
    }
    for (round = 0; round < KEPT; round++) {
        CHECK(kept[round][round * 37] == index);
        shmheap_free(mem, kept[round]);
    }
    handed[index] = shmheap_alloc(mem, 200);
    return NULL;
}

/* Far more threads than the heap could hold at once; what they owned is used again. */
static void come_and_go(const char *heap) {
    pthread_t threads[THREADS];
    int round;
    mem = create(heap);
    CHECK(mem);
    for (round = 0; round < 300; round++) {
        start_all(threads, take_and_leave);
        join_all(threads);
        CHECK(live_objects() == THREADS);
    }
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

static pthread_key_t key;

static void call_at_thread_end(void *object) {
    void *another = shmheap_alloc(mem, 100);
    CHECK(another != NULL);
    shmheap_free(mem, object);
    shmheap_free(mem, another);
    CHECK_FAILS(shmheap_underlying(NULL) == NULL, EINVAL);
}

static void *leave_an_object(void *unused) {
    (void)unused;
    CHECK(pthread_setspecific(key, shmheap_alloc(mem, 24)) == 0);
    return NULL;
}

/* A destructor of thread-specific data runs when the thread has given its slabs back already. */
static void ends(const char *heap) {
    pthread_t threads[THREADS];
    int round;
    CHECK(pthread_key_create(&key, call_at_thread_end) == 0);
    mem = create(heap);
    CHECK(mem);
    for (round = 0; round < 50; round++) {
        start_all(threads, leave_an_object);
        join_all(threads);
    }
    CHECK(live_objects() == 0 && shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int arrived, released;

static void arrive(void) {
    pthread_mutex_lock(&lock);
    arrived++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void wait_for(int *counter, int value) {
    pthread_mutex_lock(&lock);
    while (*counter < value) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
}

static void release(int value) {
    pthread_mutex_lock(&lock);
    released = value;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* Uses the heap, stays while it is disconnected, uses it again, and ends. */
static void *outlive_a_connection(void *argument) {
    shmheap_memory_handle before = mem;
    void *object = shmheap_alloc(before, 64 + (uintptr_t)argument);
    CHECK(object != NULL);
    shmheap_free(before, object);
    CHECK(shmheap_alloc(before, 32) != NULL);
    arrive();
    wait_for(&released, 1);
    CHECK_FAILS(shmheap_alloc(before, 64) == NULL, EINVAL);
    CHECK_REFUSES(shmheap_free(before, object), EINVAL);
    object = shmheap_alloc(mem, 64);
    CHECK(object != NULL);
    shmheap_free(mem, object);
    arrive();
    wait_for(&released, 2);
    return NULL;
}

/* One thread disconnects what others have used; they go on, on a later connection. */
static void disconnected_by_another(const char *heap) {
    pthread_t threads[THREADS];
    int round;
    mem = create(heap);
    CHECK(mem);
    for (round = 0; round < 30; round++) {
        void *base = shmheap_underlying(mem);
        arrived = released = 0;
        start_all(threads, outlive_a_connection);
        wait_for(&arrived, THREADS);
        CHECK(is_mapped(base));
        shmheap_disconnect(mem);
        CHECK(!is_mapped(base));
        mem = shmheap_connect(heap);
        CHECK(mem);
        release(1);
        wait_for(&arrived, 2 * THREADS);
        release(2);
        join_all(threads);
        CHECK(live_objects() == (uint64_t)(round + 1) * THREADS);
    }
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

static void *use_and_end(void *argument) {
    shmheap_memory_handle here = mem;
    size_t round;
    for (round = 0; round < 30; round++) {
        shmheap_free(here, shmheap_alloc(here, 16 + (uintptr_t)argument % 4 * 100));
    }
    arrive();
    return NULL;
}

/* Threads end at the very moment at which another disconnects what they have used. */
static void ends_race_with_disconnect(const char *heap) {
    pthread_t threads[THREADS];
    shmheap_memory_handle first = create(heap);
    int round;
    CHECK(first);
    for (round = 0; round < 300; round++) {
        void *base;
        mem = shmheap_connect(heap);
        CHECK(mem);
        base = shmheap_underlying(mem);
        arrived = 0;
        start_all(threads, use_and_end);
        wait_for(&arrived, round % (THREADS + 1));
        shmheap_disconnect(mem);
        CHECK(!is_mapped(base));
        join_all(threads);
    }
    mem = first;
    /* A thread may be refused between an object's allocation and its free. */
    CHECK(live_objects() <= 300 * THREADS && shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

static void *call_until_refused(void *unused) {
    shmheap_memory_handle here = mem;
    (void)unused;
    arrive();
    for (;;) {
        void *object = shmheap_alloc(here, 64);
        if (object == NULL) {
            break;
        }
        (void)shmheap_ptr_to_handle(here, object);
        shmheap_free(here, object);
    }
    CHECK(errno == EINVAL);
    return NULL;
}

/* Disconnect while others call: they are refused from then on, and nothing faults. */
static void calls_race_with_disconnect(const char *heap) {
    pthread_t threads[THREADS];
    shmheap_memory_handle first = create(heap);
    int round;
    CHECK(first);
    for (round = 0; round < 40; round++) {
        mem = shmheap_connect(heap);
        CHECK(mem);
        arrived = 0;
        start_all(threads, call_until_refused);
        wait_for(&arrived, THREADS);
        shmheap_disconnect(mem);
        join_all(threads);
    }
    mem = first;
    CHECK(live_objects() <= 40 * THREADS && shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"come_and_go", come_and_go},
        {"ends", ends},
        {"disconnected_by_another", disconnected_by_another},
        {"ends_race_with_disconnect", ends_race_with_disconnect},
        {"calls_race_with_disconnect", calls_race_with_disconnect},
    };
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
