// Standard containers in shared memory: a table of rows that several processes fill at once.
//
//   c++ -std=c++17 stl.cpp $(pkg-config --cflags --libs shmheap) -o stl
//   ./stl
//
// The parent puts a table into a heap and starts four workers, programs of their own that get the
// name of the heap, the handle of the table, and the number of a row. Each looks for the prime
// numbers of its quarter and appends them to its row. The parent then reads what they have found.
#include <shmheap.hpp>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <scoped_allocator>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

// With this allocator a vector keeps its elements in a heap, and refers to them by distances, which
// are the same in every process.
using row = std::vector<int, shmheap::allocator<int>>;
// The adaptor hands the allocator of the table on to its rows.
using table = std::vector<row, std::scoped_allocator_adaptor<shmheap::allocator<row>>>;

static const int worker_count = 4;
static const int numbers_each = 25000;

static bool is_prime(int number) {
    for (int factor = 2; factor * factor <= number; factor++) {
        if (number % factor == 0) {
            return false;
        }
    }
    return number > 1;
}

static void work(const char *name, const char *handle, const char *number) {
    const shmheap::heap heap = shmheap::heap::connect(name);
    // The heap checks that the handle is that of an object. That it is a table, we know.
    table &primes = *heap.resolve(shmheap::handle<table>(std::strtoull(handle, nullptr, 10)));
    const int index = std::atoi(number);
    // No lock: a row belongs to one worker, and the heap serves all of them at once. What several
    // processes change needs one, as between threads.
    row &own = primes.at(static_cast<std::size_t>(index));
    for (int it = index * numbers_each; it < (index + 1) * numbers_each; it++) {
        if (is_prime(it)) {
            own.push_back(it);
        }
    }
}

static pid_t start_worker(const char *program, const std::string &name,
                          shmheap::handle<table> handle, int number) {
    const std::string handle_text = std::to_string(handle.raw());
    const std::string number_text = std::to_string(number);
    const pid_t worker = fork();
    if (worker == 0) {
        execl(program, program, name.c_str(), handle_text.c_str(), number_text.c_str(),
              static_cast<char *>(nullptr));
        _exit(127);
    }
    return worker;
}

// Tells whether all of them did their work.
static bool share_work(const char *program, const std::string &name,
                       shmheap::handle<table> handle) {
    std::vector<pid_t> workers;
    for (int number = 0; number < worker_count; number++) {
        workers.push_back(start_worker(program, name, handle, number));
    }
    bool is_done = true;
    for (const pid_t worker : workers) {
        int status = -1;
        is_done &= worker > 0 && waitpid(worker, &status, 0) == worker && status == 0;
    }
    return is_done;
}

static bool supervise(const char *program, const std::string &name, const shmheap::heap &heap) {
    // The table itself lies in the heap, too. It ends with this scope.
    const auto primes = shmheap::make_unique<table>(heap, std::size_t(worker_count));
    if (!share_work(program, name, heap.to_handle(primes.get().get()))) {
        std::cerr << "stl: a worker has failed\n";
        return false;
    }
    std::size_t count = 0;
    for (const row &found : *primes) {
        count += found.size();
        std::cout << found.size() << " primes from " << found.front() << " to " << found.back()
                  << '\n';
    }
    std::cout << count << " in all\n";
    return true;
}

// Removes the heap in the end, whatever happens until then.
struct heap_name {
    std::string text;
    ~heap_name() { shmheap::heap::try_destroy(text.c_str()); }
};

int main(int argc, char **argv) {
    try {
        if (argc == 4) {
            work(argv[1], argv[2], argv[3]);
            return EXIT_SUCCESS;
        }
        const heap_name name{"/stl-example-" + std::to_string(getpid())};
        // Scalable: the workers allocate at the same time.
        const shmheap::options options(16 << 20, shmheap::policy::scalable);
        const shmheap::heap heap = shmheap::heap::create(name.text.c_str(), options);
        return supervise(argv[0], name.text, heap) ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (const std::exception &error) { // shmheap::error says what to do; or the heap is full
        std::cerr << "stl: " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
