/**
 * @file shmheap.h
 * @brief malloc for shared memory.
 *
 * A process creates a named heap; any other process connects to it by name. All of them allocate
 * and free objects in it and hand objects to each other as handles, which are plain integers that
 * mean the same in every process.
 *
 * @code
 *   shmheap_memory_handle mem = shmheap_create("/example", 1 << 20);
 *   char *text = (char *)shmheap_alloc(mem, 6);
 *   strcpy(text, "hello");
 *   shmheap_object_handle hdl = shmheap_ptr_to_handle(mem, text);
 *   // send hdl to a process that called shmheap_connect("/example") ...
 *   // ... where shmheap_handle_to_ptr(mem, hdl) points to the same "hello".
 * @endcode
 *
 * What holds for every function:
 *
 * - Sizes and lengths are in bytes.
 * - Errors. A failed call returns NULL, 0 or -1 as its description says (a void function does
 *   nothing), sets errno, and leaves a text for shmheap_last_error(). It changes nothing else. A
 *   successful call leaves errno and the text alone. No function raises a signal, prints, installs
 *   a signal handler, lets a C++ exception or Rust panic through, or ends the process, unless the
 *   process's private memory is exhausted.
 * - Wrong arguments. NULL, disconnected, foreign and invented memory handles are noticed (EINVAL).
 *   So are pointers and handles that name no live object: freed twice, inside an object, of another
 *   heap (EINVAL). A pointer to a freed object whose memory was given to a new one cannot be told
 *   from a pointer to that; an object handle can, under the scalable policy (ESTALE).
 * - Threads. Any thread may call any function at any time. shmheap_disconnect() and
 *   shmheap_destroy() wait for calls of other threads on that handle to return; threads that have
 *   used the heap may go on, or end, before or after. As with malloc, no function may be called
 *   from a signal handler.
 * - Fork. A memory handle works in a forked child, which counts as a process of its own.
 * - Crashes. A process may be killed at any instruction, also inside these functions: the heap
 *   stays sound and the others go on. Objects of a killed process stay allocated. A process that is
 *   stopped (SIGSTOP) inside one of them keeps nobody waiting under the scalable policy; under the
 *   first-fit policy the others wait 20 ms for it and then go on without it; if a third process is
 *   stopped so at the same time, they may have to wait until one of them goes on or is killed.
 * - Sanitizers. A library built for them tells AddressSanitizer and Valgrind which bytes a program
 *   may touch. They know an object that another process has allocated once it is named to
 *   shmheap_usable_size() or by shmheap_handle_to_ptr().
 */
#ifndef SHMHEAP_H
#define SHMHEAP_H

#include <stddef.h>
#include <stdint.h>

/** Version of this header. shmheap_version() gives that of the library in use. */
#define SHMHEAP_VERSION_MAJOR 0
#define SHMHEAP_VERSION_MINOR 1
#define SHMHEAP_VERSION_PATCH 0
#define SHMHEAP_VERSION_STRING "0.1.0"

/** Marks the functions that the library exports. */
#ifndef SHMHEAP_API
#if defined(__GNUC__)
#define SHMHEAP_API __attribute__((visibility("default")))
#else
#define SHMHEAP_API
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A heap, as this process is connected to it. NULL: none.
 *
 * A number in the shape of a pointer: it is passed by value, may be sent to a forked child, and
 * points to nothing.
 */
typedef struct shmheap_memory *shmheap_memory_handle;

/** An object of a heap: the same number in every process. 0: none. */
typedef size_t shmheap_object_handle;

/* ---- the original nine functions ---------------------------------------------------------- */

/**
 * Creates a heap of fixed size in POSIX shared memory and connects to it.
 *
 * Objects are placed by first fit, at multiples of 8. The object's mode is 0600. The heap's own
 * records are added to @p len: all of it is for objects.
 *
 * @param name  as for shm_open(3): an optional leading slash and no other, at most 254 bytes.
 * @param len   bytes for objects; rounded up to a multiple of 8.
 * @return the heap, or NULL: EEXIST (the name is taken), EINVAL (name, len), EACCES, ENOSPC (shared
 *         memory is full), ENOMEM (address space).
 *
 * The heap appears under its name complete or, if the process is killed on the way, not at all.
 */
SHMHEAP_API shmheap_memory_handle shmheap_create(const char *name, size_t len);

/**
 * Connects to the heap of that name.
 *
 * @return the heap, or NULL: ENOENT (no such name), EACCES, EBADF (not a heap, or a damaged one),
 *         EPROTO (made by an incompatible version), EUSERS (too many processes), ENOMEM, EINVAL;
 *         EADDRINUSE (made with SHMHEAP_SAME_ADDRESS, and something lies there in this process, for
 *         instance this heap, connected to already).
 *
 * Every call is a connection of its own, which ends with its own shmheap_disconnect().
 */
SHMHEAP_API shmheap_memory_handle shmheap_connect(const char *name);

/**
 * Ends the connection and unmaps the heap: pointers to its objects are no longer valid. The heap
 * and its objects stay. Waits for calls of other threads on @p mem. EINVAL: not a memory handle.
 */
SHMHEAP_API void shmheap_disconnect(shmheap_memory_handle mem);

/**
 * Disconnects from @p mem, then removes the heap's name; its memory goes with the last process that
 * is connected.
 *
 * @param mem  the connection to end, or NULL for none.
 *
 * EINVAL: @p mem is neither NULL nor a memory handle, or the name cannot be one; nothing was done.
 * ENOENT (another process was faster), EBADF (something else has that name), EACCES: the name could
 * not be removed, but this process is disconnected.
 */
SHMHEAP_API void shmheap_destroy(const char *name, shmheap_memory_handle mem);

/** Start of the heap's data as mapped here: a multiple of the page size. NULL: EINVAL. */
SHMHEAP_API void *shmheap_underlying(shmheap_memory_handle mem);

/**
 * Allocates an object: under the first-fit policy, which heaps of shmheap_create() have, at the
 * lowest address that holds it; under the scalable policy in a slab of its size class.
 *
 * @param sz  size; rounded up to the granule (8 for shmheap_create()) or to the size class. 0 gives
 *            a smallest object.
 * @return the object, its content undefined; or NULL: ENOMEM (no free range is large enough; the
 *         heap stays usable), EDQUOT (a quota, see shmheap/labels.h), EROFS (connected read-only),
 *         EUSERS (too many threads under the scalable policy, or too many labels), EINVAL.
 *
 * The object is aligned to the granule; under the scalable policy to 16 from a size of 16 on, below
 * that to 8, which is enough for any C type of that size.
 */
SHMHEAP_API void *shmheap_alloc(shmheap_memory_handle mem, size_t sz);

/**
 * Frees an object that any process allocated.
 *
 * NULL is nothing to do. EINVAL: not a live object of this heap, which is left unharmed. EUSERS:
 * under the scalable policy, too many threads of all processes; the object lives on.
 */
SHMHEAP_API void shmheap_free(shmheap_memory_handle mem, void *ptr);

/** The handle of the object that starts at @p ptr, or 0: EINVAL (no live object starts there). */
SHMHEAP_API shmheap_object_handle shmheap_ptr_to_handle(shmheap_memory_handle mem, void *ptr);

/**
 * The object's address in this process, or NULL: EINVAL (@p hdl names no live object of this heap),
 * under the scalable policy ESTALE where it names a place in the heap (the object was freed).
 *
 * Under the scalable policy the handle of a freed object is told from that of a later object at the
 * same address, until the address has been used 128 times more. Under first fit both are the same.
 */
SHMHEAP_API void *shmheap_handle_to_ptr(shmheap_memory_handle mem, shmheap_object_handle hdl);

/* ---- creating and connecting with choices -------------------------------------------------- */

/**
 * For `policy`: every object gets the lowest address that holds it. Operations of all processes
 * take turns. For placement that is compact and the same in every run, for heaps below some MiB,
 * and for programs written for the original nine functions.
 */
#define SHMHEAP_POLICY_FIRST_FIT 1u
/**
 * For `policy`: threads allocate from slabs of size classes that are theirs, without a lock. For
 * many processes or threads at work at once, and where one that is stopped must cost the rest
 * nothing.
 *
 * Lengths are multiples of 64 KiB. Every thread takes a slab of at least 64 KiB for each size class
 * that it allocates from, so a heap should have some MiB; objects above 512 KiB take multiples of
 * 64 KiB. A size above 128 bytes is rounded up by an eighth at most.
 */
#define SHMHEAP_POLICY_SCALABLE 2u

/** For shmheap_connect_with(): only read. Functions that change the heap fail with EROFS. */
#define SHMHEAP_READ_ONLY 1u
/** The name is the path of a regular file, which holds the heap. */
#define SHMHEAP_FILE 2u
/** For `flags` of shmheap_options: `group` is set. */
#define SHMHEAP_SET_GROUP 4u
/**
 * For `flags` of shmheap_options: the heap lies at the same address in every process, so that
 * objects may hold plain pointers to each other, which all processes can follow (but not pointers
 * to functions, nor C++ objects with virtual functions).
 *
 * Every connection gets the heap there or fails with EADDRINUSE, if anything lies there in this
 * process; nothing is moved or replaced. So a process connects to such a heap once at a time.
 */
#define SHMHEAP_SAME_ADDRESS 8u
/**
 * For `flags` of shmheap_options: whoever disconnects as the last removes the heap's name. Killed
 * processes do not count; if all were, whoever creates or connects next gives the memory back.
 */
#define SHMHEAP_EPHEMERAL 16u

/**
 * What can be chosen for a new heap. 0 in a field means its default.
 *
 * Later versions add fields at the end. Start from SHMHEAP_OPTIONS_INIT, so that `size` tells the
 * library which ones the program knows.
 */
typedef struct shmheap_options {
    size_t size;       /**< sizeof(shmheap_options) */
    size_t len;        /**< bytes for objects now */
    size_t max_len;    /**< bytes for objects at the most, by growth; default: len */
    uint32_t granule;  /**< first fit: 8 or 16, for addresses and sizes; default 16 */
    uint32_t mode;     /**< permission bits, set whatever the umask; default 0600 */
    uint32_t policy;   /**< SHMHEAP_POLICY_*; default SHMHEAP_POLICY_FIRST_FIT */
    uint32_t flags;    /**< SHMHEAP_FILE, _SET_GROUP, _SAME_ADDRESS, _EPHEMERAL, _LABELS */
    uint32_t group;    /**< numeric group that owns the heap; read with SHMHEAP_SET_GROUP only */
    uint32_t reserved; /**< 0 */
    /**
     * With SHMHEAP_SAME_ADDRESS: where the heap starts, records first, or 0 to have an address
     * chosen. A multiple of 4096, of 2 MiB under the scalable policy; between 4 GiB and 80 TiB with
     * all that the heap may grow to.
     */
    size_t address;
} shmheap_options;

/** Initial value: `shmheap_options options = SHMHEAP_OPTIONS_INIT; options.len = 1 << 20;` */
#define SHMHEAP_OPTIONS_INIT {sizeof(shmheap_options), 0, 0, 0, 0, 0, 0, 0, 0, 0}

/**
 * Creates a heap as shmheap_create() does, with choices.
 *
 * @param name  a name as for shm_open(3), or with SHMHEAP_FILE a path.
 * @return the heap, or NULL: errors of shmheap_create(); EINVAL also for an option or flag that is
 *         unknown to this version, EPERM for a group this user may not give, EADDRINUSE for an
 *         `address` that is taken in this process.
 */
SHMHEAP_API shmheap_memory_handle shmheap_create_with(const char *name,
                                                      const shmheap_options *options);

/**
 * Connects as shmheap_connect() does.
 *
 * @param flags  SHMHEAP_READ_ONLY, SHMHEAP_FILE, both or 0. EINVAL: any other bit.
 */
SHMHEAP_API shmheap_memory_handle shmheap_connect_with(const char *name, uint32_t flags);

/** Destroys as shmheap_destroy() does. @param flags SHMHEAP_FILE or 0. @return 0, or -1. */
SHMHEAP_API int shmheap_destroy_with(const char *name, shmheap_memory_handle mem, uint32_t flags);

/**
 * Creates a heap without a name, in a memfd(2). It is passed on by its descriptor and is gone with
 * its last process. `mode`, `group` apply; SHMHEAP_FILE does not (EINVAL).
 */
SHMHEAP_API shmheap_memory_handle shmheap_create_memfd(const shmheap_options *options);

/**
 * Connects to the heap in the object that @p fd is open on: inherited, or received by SCM_RIGHTS.
 * The descriptor stays the caller's and may be closed at once. NULL: EBADF (not open, or not a
 * heap) and the errors of shmheap_connect().
 */
SHMHEAP_API shmheap_memory_handle shmheap_connect_fd(int fd);

/**
 * A new descriptor of the heap's object, to pass to another process. The caller closes it. It is
 * close-on-exec: clear FD_CLOEXEC to have it inherited by an exec'd program. -1: EINVAL, EMFILE.
 */
SHMHEAP_API int shmheap_fd(shmheap_memory_handle mem);

/**
 * Makes the heap at least @p len bytes long, for every connected process, while they go on.
 * Allocation grows a heap by itself when it is full and `max_len` permits.
 *
 * @return the new length, or 0: EINVAL (more than max_len), ENOSPC, EROFS.
 */
SHMHEAP_API size_t shmheap_grow(shmheap_memory_handle mem, size_t len);

/**
 * Gives memory that no object uses back to the system. The heap keeps its length: what was given
 * back is taken again when it is needed, and if the system is full then, an allocation fails
 * (ENOSPC).
 *
 * @return how many bytes were given back, always 0 under the first-fit policy; or 0: EINVAL, EROFS.
 */
SHMHEAP_API size_t shmheap_trim(shmheap_memory_handle mem);

/* ---- the rest of the malloc family ----------------------------------------------------------- */

/** Allocates @p count * @p size bytes, all 0. NULL: ENOMEM (also if the product overflows). */
SHMHEAP_API void *shmheap_calloc(shmheap_memory_handle mem, size_t count, size_t size);

/**
 * Changes an object's size, in place if it can, and keeps its content up to the smaller size.
 *
 * @param ptr   an object, or NULL: then it is shmheap_alloc().
 * @param size  0 shrinks to the smallest object; it does not free.
 * @return the object, moved or not; or NULL: as shmheap_alloc(). Then the old one stands unchanged.
 *
 * A moved object has the alignment of shmheap_alloc(), and a new handle. While a sanitizer watches,
 * an object is moved wherever there is room for both.
 */
SHMHEAP_API void *shmheap_realloc(shmheap_memory_handle mem, void *ptr, size_t size);

/**
 * Allocates at a multiple of @p alignment, a power of two up to 4096, under the scalable policy up
 * to 2 MiB; EINVAL for any other. @p size need not be a multiple of it. shmheap_free() frees it.
 */
SHMHEAP_API void *shmheap_aligned_alloc(shmheap_memory_handle mem, size_t alignment, size_t size);

/** Bytes that the object may use, at least what was asked for. 0: @p ptr is NULL, or EINVAL. */
SHMHEAP_API size_t shmheap_usable_size(shmheap_memory_handle mem, void *ptr);

/* ---- roots: names in a heap ------------------------------------------------------------------ */

/**
 * Gives an object a name in the heap, by which any process finds it that is connected to the heap.
 *
 * @param name  1 to 120 bytes of UTF-8, which the library copies.
 * @param ptr   a live object.
 * @return 0, or -1: EEXIST (the name is taken, also by a root that is still being made), EINVAL
 *         (name, ptr), EROFS, ENOMEM (no room for the heap's list of names, which is an object).
 *
 * The name does not keep the object: remove the name before you free that. Of processes that give
 * the same name at once, one succeeds. One that is killed inside leaves the name given or not.
 *
 * @code
 *   if (shmheap_root_set(mem, "config", config) == 0) ... // one process
 *   config = shmheap_root_get(mem, "config");             // the others
 * @endcode
 */
SHMHEAP_API int shmheap_root_set(shmheap_memory_handle mem, const char *name, void *ptr);

/**
 * The object of that name, also under a read-only connection. Never waits.
 *
 * @return the object, or NULL: ENOENT (nothing has the name, or it is still being made), EINVAL (@p
 *         name is NULL or not UTF-8; or the object was freed before its name was removed), under
 *         the scalable policy ESTALE for the latter.
 *
 * Roots that Rust programs have made (Heap::find_or_create) are found as well: what is returned is
 * where the value is. It does not hold the value: that is freed when its name has been removed and
 * no Rust program holds it any more, and must not be freed by shmheap_free(). So programs agree on
 * when a name is removed; as long as it is there, the value is.
 */
SHMHEAP_API void *shmheap_root_get(shmheap_memory_handle mem, const char *name);

/**
 * Takes the name from a root. An object that got it by shmheap_root_set() stays, and is the
 * caller's; a value that a Rust program made is freed when no process holds it any more.
 *
 * @return 0, or -1: ENOENT (nothing has the name), EBUSY (a living process is still making it),
 *         EINVAL (@p name is NULL or not UTF-8), EROFS.
 */
SHMHEAP_API int shmheap_root_remove(shmheap_memory_handle mem, const char *name);

/**
 * Calls @p visit for each root that is made, in no order: with its name, its object (NULL if that
 * was freed before its name was removed), and @p context.
 *
 * What is listed are the roots of one moment before the first call. Names and list stand until this
 * function returns. @p visit may call any function of this library. It may leave by longjmp() or a
 * C++ exception: then the list is not freed, 32 bytes and the name for each root.
 *
 * @return 0 when all were visited; what @p visit returned, if that was not 0: nothing more is
 *         visited then; or -1: EINVAL (@p mem, or @p visit is NULL). A @p visit that stops should
 *         return a positive number, for -1 to be a failure.
 */
SHMHEAP_API int shmheap_root_list(shmheap_memory_handle mem,
                                  int (*visit)(const char *name, void *ptr, void *context),
                                  void *context);

/* ---- mutexes and channels -------------------------------------------------------------------- */

/**
 * A mutex in an object of a heap, 0 when nobody has it, as in a zeroed object. In Rust
 * `struct { shmheap_mutex mutex; T value; }` is a `ShmMutex<T>`, if T is aligned to 8 at the most.
 */
typedef struct shmheap_mutex {
    uint64_t word; /**< belongs to the library */
} shmheap_mutex;

/**
 * Waits until no process has the mutex, and takes it for this one.
 *
 * @param timeout_ns  nanoseconds to wait at the most; 0 does not wait, a negative number for ever.
 * @return 0: it is this process's. 1: so it is, but a process was killed with the mutex in its
 *         hands, and may have left half changed what it guards: repair that, then say so by
 *         shmheap_mutex_set_sound(); unless you do, the next one gets 1 again. -1: ETIMEDOUT,
 *         EINVAL (@p mutex lies outside the heap, or at no multiple of 8), EROFS.
 *
 * It belongs to the process, not to the thread: a thread that takes it twice waits for itself, and
 * another thread may give it up. There is no system call unless another wants it, too.
 */
SHMHEAP_API int shmheap_mutex_lock(shmheap_memory_handle mem, shmheap_mutex *mutex,
                                   int64_t timeout_ns);

/** What the mutex guards is repaired. @return 0, or -1: EPERM (not this process's), EINVAL. */
SHMHEAP_API int shmheap_mutex_set_sound(shmheap_memory_handle mem, shmheap_mutex *mutex);

/** Gives the mutex up. @return 0, or -1: EPERM (not this process's), EINVAL. */
SHMHEAP_API int shmheap_mutex_unlock(shmheap_memory_handle mem, shmheap_mutex *mutex);

/**
 * Opens the queue of that name, or makes one for @p capacity messages of @p size bytes, rounded up
 * to a power of two and to a multiple of 8. Any number of processes send to it and receive from it.
 * shmheap_root_remove() frees it, when nobody uses it any more. In Rust it is a `Channel<T>` whose
 * T has that size.
 *
 * @return a handle that is valid in every process, or 0: EINVAL (name; capacity: 1 to 1048576;
 *         size: at most 524288), EPROTOTYPE (the name is that of something else, or of messages of
 *         another size), ENOMEM, EROFS.
 *
 * A process that is killed or stopped inside one of these functions keeps nobody waiting. What it
 * was sending is sent or not; what it was receiving comes to another receiver.
 */
SHMHEAP_API shmheap_object_handle shmheap_channel_open(shmheap_memory_handle mem, const char *name,
                                                       size_t capacity, size_t size);

/**
 * Sends a message of @p size bytes; one that is shorter than the channel's is filled up with zeros.
 *
 * @param timeout_ns  how long to wait for room, as for shmheap_mutex_lock().
 * @return 0, or -1: ETIMEDOUT (no room), EPIPE (the channel is closed), EINVAL (@p message is NULL
 *         or too long; @p channel), EPROTOTYPE (@p channel is none), EROFS.
 */
SHMHEAP_API int shmheap_channel_send(shmheap_memory_handle mem, shmheap_object_handle channel,
                                     const void *message, size_t size, int64_t timeout_ns);

/**
 * Receives the oldest message into @p message, which has room for @p size bytes: at least the
 * channel's size, rounded up to a multiple of 8.
 *
 * @return 1: a message. 0: the channel is closed and empty. -1: ETIMEDOUT (none), EINVAL,
 *         EPROTOTYPE, EROFS.
 */
SHMHEAP_API int shmheap_channel_recv(shmheap_memory_handle mem, shmheap_object_handle channel,
                                     void *message, size_t size, int64_t timeout_ns);

/** Closes the channel to senders for good. @return 0, or -1: EINVAL, EPROTOTYPE, EROFS. */
SHMHEAP_API int shmheap_channel_close(shmheap_memory_handle mem, shmheap_object_handle channel);

/* ---- looking inside -------------------------------------------------------------------------- */

/** How full a heap is. Later versions add fields at the end. */
typedef struct shmheap_statistics {
    size_t size;             /**< sizeof(shmheap_statistics): set before the call */
    uint64_t len;            /**< bytes for objects now */
    uint64_t max_len;        /**< bytes for objects at the most */
    uint64_t live_bytes;     /**< bytes in live objects, rounded up as they are */
    uint64_t live_objects;   /**< number of live objects */
    uint64_t free_bytes;     /**< bytes in free blocks */
    uint64_t largest_free;   /**< bytes of the largest free block */
    uint64_t metadata_bytes; /**< bytes of the heap's own records */
    uint64_t operations;     /**< operations since the heap was made; scalable: 0 */
    uint32_t peers_alive;    /**< processes connected now */
    uint32_t peers_dead;     /**< processes that died connected, not yet swept */
    uint64_t tail_bytes;     /**< bytes that no object can use, behind the last of a slab */
    uint64_t trimmed_bytes;  /**< of free_bytes, those given back to the system */
} shmheap_statistics;

/** Initial value: `shmheap_statistics statistics = SHMHEAP_STATISTICS_INIT;` */
#define SHMHEAP_STATISTICS_INIT {sizeof(shmheap_statistics), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/**
 * Fills in the statistics; exact when no process changes the heap meanwhile. Fields that the
 * library in use does not know become 0.
 *
 * @return 0, or -1: EINVAL (also for a wrong `size`).
 */
SHMHEAP_API int shmheap_stats(shmheap_memory_handle mem, shmheap_statistics *statistics);

/**
 * Audits the whole heap. Takes time in proportion to its length; others may go on meanwhile. Under
 * the scalable policy it stops nobody, so a change that a thread is in the middle of may be found,
 * too: what is damage is found again a moment later.
 *
 * @return 0 for a sound heap; else the number of findings (64 stands for 64 or more), with the
 *         first as shmheap_last_error() and errno EUCLEAN; or -1: EINVAL.
 */
SHMHEAP_API int shmheap_check(shmheap_memory_handle mem);

/**
 * What this thread's last failed call failed of, and what to do about it; "" before the first.
 * Never NULL. Valid until this thread's next failure or end.
 */
SHMHEAP_API const char *shmheap_last_error(void);

/** What an errno value of this library means. Never NULL. Valid until this thread's next call. */
SHMHEAP_API const char *shmheap_strerror(int errnum);

/** Version of the library in use, such as "0.1.0". */
SHMHEAP_API const char *shmheap_version(void);

#ifdef __cplusplus
}
#endif

#endif /* SHMHEAP_H */
