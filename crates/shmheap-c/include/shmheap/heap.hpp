/**
 * @file shmheap/heap.hpp
 * @brief A connection to a heap, its options, and handles with a type. Part of shmheap.hpp.
 */
#ifndef SHMHEAP_HEAP_HPP
#define SHMHEAP_HEAP_HPP

#include <shmheap.h>
#include <shmheap/connections.hpp>
#include <shmheap/error.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace shmheap {

/** How objects are placed: SHMHEAP_POLICY_*, where each is described. */
enum class policy : std::uint32_t {
    first_fit = SHMHEAP_POLICY_FIRST_FIT,
    scalable = SHMHEAP_POLICY_SCALABLE,
};

/**
 * What can be chosen for a new heap: the fields of shmheap_options, each at its default.
 *
 * @code
 *   shmheap::options options(1 << 20, shmheap::policy::scalable);
 *   options.max_len = 1 << 30;
 * @endcode
 */
struct options : shmheap_options {
    options(std::size_t bytes, shmheap::policy placement = shmheap::policy::first_fit) noexcept
        : shmheap_options SHMHEAP_OPTIONS_INIT {
        len = bytes;
        policy = static_cast<std::uint32_t>(placement);
    }
};

/**
 * The handle of an object that the program says is a T: the same number in every process, which may
 * be sent to any of them. The heap checks that it names a live object; nobody checks the T.
 */
template <class T>
class handle {
public:
    /** Names no object. */
    constexpr handle() noexcept = default;
    /** Of a number that came from raw(), in this process or another. */
    constexpr explicit handle(shmheap_object_handle raw) noexcept : raw_(raw) {}

    constexpr shmheap_object_handle raw() const noexcept { return raw_; }
    constexpr explicit operator bool() const noexcept { return raw_ != 0; }

    friend constexpr bool operator==(handle left, handle right) noexcept {
        return left.raw_ == right.raw_;
    }
    friend constexpr bool operator!=(handle left, handle right) noexcept {
        return left.raw_ != right.raw_;
    }

private:
    shmheap_object_handle raw_ = 0;
};

/**
 * A connection of this process to a heap, or none. Its end disconnects; the heap stays until it is
 * destroyed. It is itself private to the process: keep it on the stack or in a global, never in a
 * heap. Objects, containers and pointers of the heap are not to be touched after its end.
 *
 * A function that fails throws shmheap::error, or std::bad_alloc where it wanted memory of a heap
 * that is full. The try_ variants throw nothing: they return "none" and leave errno and
 * shmheap_last_error(). Which errors there are says the function of the same name in shmheap.h.
 *
 * Threads may use one heap object at once, but for moving, assigning, disconnecting and destroying
 * it. After fork() the child may use its copy; after exec it connects again.
 */
class heap {
public:
    /** No connection: functions that need one fail with EINVAL. */
    heap() noexcept = default;

    /** Creates a heap: shmheap_create_with(). With only a length it places objects by first fit. */
    static heap create(const char *name, const options &options) {
        return connected(try_create(name, options));
    }
    static heap try_create(const char *name, const options &options) noexcept {
        return try_adopt(shmheap_create_with(name, &options));
    }

    /** Creates a heap without a name: shmheap_create_memfd(). */
    static heap create_memfd(const options &options) {
        return connected(try_create_memfd(options));
    }
    static heap try_create_memfd(const options &options) noexcept {
        return try_adopt(shmheap_create_memfd(&options));
    }

    /** Connects to a heap: shmheap_connect_with(). @param flags SHMHEAP_READ_ONLY, SHMHEAP_FILE */
    static heap connect(const char *name, std::uint32_t flags = 0) {
        return connected(try_connect(name, flags));
    }
    static heap try_connect(const char *name, std::uint32_t flags = 0) noexcept {
        return try_adopt(shmheap_connect_with(name, flags));
    }

    /** Connects to the heap in an object that is open: shmheap_connect_fd(). */
    static heap connect_fd(int fd) { return connected(try_connect_fd(fd)); }
    static heap try_connect_fd(int fd) noexcept { return try_adopt(shmheap_connect_fd(fd)); }

    /** Takes over a connection of the C functions. If it fails, that is disconnected. */
    static heap adopt(shmheap_memory_handle mem) { return connected(try_adopt(mem)); }
    static heap try_adopt(shmheap_memory_handle mem) noexcept {
        heap adopted;
        if (mem == nullptr) {
            return adopted;
        }
        void *base = shmheap_underlying(mem);
        if (base == nullptr) {
            return adopted;
        }
        if (!detail::connections.insert(base, mem)) {
            shmheap_disconnect(mem);
            errno = ENOMEM;
            return adopted;
        }
        adopted.mem_ = mem;
        adopted.base_ = base;
        return adopted;
    }

    /**
     * Removes a heap's name: shmheap_destroy_with(). Its memory goes with its last connection.
     * @param flags SHMHEAP_FILE or 0
     */
    static void destroy(const char *name, std::uint32_t flags = 0) {
        if (!try_destroy(name, flags)) {
            detail::throw_last_error();
        }
    }
    static bool try_destroy(const char *name, std::uint32_t flags = 0) noexcept {
        return shmheap_destroy_with(name, nullptr, flags) == 0;
    }

    heap(heap &&other) noexcept
        : mem_(std::exchange(other.mem_, nullptr)), base_(std::exchange(other.base_, nullptr)) {}
    heap &operator=(heap &&other) noexcept {
        heap(std::move(other)).swap(*this);
        return *this;
    }
    ~heap() { disconnect(); }

    void swap(heap &other) noexcept {
        std::swap(mem_, other.mem_);
        std::swap(base_, other.base_);
    }

    /** Ends the connection, if there is one. */
    void disconnect() noexcept {
        const int before = errno;
        if (shmheap_memory_handle mem = release()) {
            shmheap_disconnect(mem);
        }
        errno = before;
    }

    /** Lets go of the connection without ending it. Containers cannot allocate by it any more. */
    shmheap_memory_handle release() noexcept {
        detail::connections.remove(std::exchange(base_, nullptr));
        return std::exchange(mem_, nullptr);
    }

    /** Whether there is a connection. */
    explicit operator bool() const noexcept { return mem_ != nullptr; }
    /** For the functions of shmheap.h, but not for those that end a connection. */
    shmheap_memory_handle get() const noexcept { return mem_; }
    /** Start of the heap's data as mapped here, or null: shmheap_underlying(). */
    void *underlying() const noexcept { return base_; }

    /** Allocates bytes, aligned as for any C type of that size: shmheap_alloc(). */
    void *alloc(std::size_t size) const { return allocated(try_alloc(size)); }
    void *try_alloc(std::size_t size) const noexcept { return shmheap_alloc(mem_, size); }

    /** Allocates bytes that are 0: shmheap_calloc(). */
    void *calloc(std::size_t count, std::size_t size) const {
        return allocated(try_calloc(count, size));
    }
    void *try_calloc(std::size_t count, std::size_t size) const noexcept {
        return shmheap_calloc(mem_, count, size);
    }

    /** Allocates at a multiple of an alignment: shmheap_aligned_alloc(). */
    void *aligned_alloc(std::size_t alignment, std::size_t size) const {
        return allocated(try_aligned_alloc(alignment, size));
    }
    void *try_aligned_alloc(std::size_t alignment, std::size_t size) const noexcept {
        return shmheap_aligned_alloc(mem_, alignment, size);
    }

    /** Changes the size of an object of bytes: shmheap_realloc(). Never one with offset_ptrs. */
    void *realloc(void *object, std::size_t size) const {
        return allocated(try_realloc(object, size));
    }
    void *try_realloc(void *object, std::size_t size) const noexcept {
        return shmheap_realloc(mem_, object, size);
    }

    /** Frees an object that any process allocated: shmheap_free(). */
    void free(void *object) const {
        if (!try_free(object)) {
            detail::throw_last_error();
        }
    }
    /** Tells whether the object is gone now. */
    bool try_free(void *object) const noexcept {
        const int before = std::exchange(errno, 0);
        shmheap_free(mem_, object);
        const bool is_freed = errno == 0;
        if (is_freed) {
            errno = before;
        }
        return is_freed;
    }

    /** Bytes that an object may use: shmheap_usable_size(). */
    std::size_t usable_size(void *object) const {
        const std::size_t size = shmheap_usable_size(mem_, object);
        if (size == 0 && object != nullptr) {
            detail::throw_last_error();
        }
        return size;
    }

    /** The handle of an object, to send to other processes: shmheap_ptr_to_handle(). */
    template <class T>
    handle<T> to_handle(T *object) const {
        const handle<T> found = try_to_handle(object);
        if (!found) {
            detail::throw_last_error();
        }
        return found;
    }
    template <class T>
    handle<T> try_to_handle(T *object) const noexcept {
        return handle<T>(shmheap_ptr_to_handle(mem_, object));
    }

    /** The object of a handle, as it lies in this process: shmheap_handle_to_ptr(). */
    template <class T>
    T *resolve(handle<T> handle) const {
        T *object = try_resolve(handle);
        if (object == nullptr) {
            detail::throw_last_error();
        }
        return object;
    }
    template <class T>
    T *try_resolve(handle<T> handle) const noexcept {
        return static_cast<T *>(shmheap_handle_to_ptr(mem_, handle.raw()));
    }

    /** A new descriptor of the heap's object, which the caller closes: shmheap_fd(). */
    int fd() const { return not_negative(shmheap_fd(mem_)); }

    /** Makes the heap longer and returns its new length: shmheap_grow(). */
    std::size_t grow(std::size_t len) const {
        const std::size_t grown = shmheap_grow(mem_, len);
        if (grown == 0) {
            detail::throw_last_error();
        }
        return grown;
    }

    /** Gives unused memory back to the system and tells how much: shmheap_trim(). */
    std::size_t trim() const {
        const int before = std::exchange(errno, 0);
        const std::size_t trimmed = shmheap_trim(mem_);
        if (errno != 0) {
            detail::throw_last_error();
        }
        errno = before;
        return trimmed;
    }

    /** How full it is: shmheap_stats(). */
    shmheap_statistics stats() const {
        shmheap_statistics statistics = SHMHEAP_STATISTICS_INIT;
        not_negative(shmheap_stats(mem_, &statistics));
        return statistics;
    }

    /** Audits the heap and returns the number of findings, 0 for a sound one: shmheap_check(). */
    int check() const { return not_negative(shmheap_check(mem_)); }

private:
    static heap connected(heap &&candidate) {
        if (!candidate) {
            detail::throw_last_error();
        }
        return std::move(candidate);
    }

    static void *allocated(void *object) {
        if (object == nullptr) {
            detail::throw_no_memory();
        }
        return object;
    }

    static int not_negative(int result) {
        if (result < 0) {
            detail::throw_last_error();
        }
        return result;
    }

    shmheap_memory_handle mem_ = nullptr;
    void *base_ = nullptr;
};

} // namespace shmheap

#endif // SHMHEAP_HEAP_HPP
