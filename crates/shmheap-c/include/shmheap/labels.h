/**
 * @file shmheap/labels.h
 * @brief Tags, quotas, and who has how much: of heaps made with SHMHEAP_LABELS.
 *
 * In such a heap every object is counted under the process that allocates it and under a tag, a
 * name that says what it is for. The heap, each process and each tag may have a quota.
 *
 * @code
 *   shmheap_options options = SHMHEAP_OPTIONS_INIT;
 *   options.len = 1 << 20;
 *   options.flags = SHMHEAP_LABELS;
 *   shmheap_memory_handle mem = shmheap_create_with("/example", &options);
 *   shmheap_set_quota(mem, SHMHEAP_QUOTA_TAG, "parser", 64 << 10);
 *   shmheap_tag_push(mem, "parser");
 *   void *tree = shmheap_alloc(mem, 1000); // NULL and EDQUOT when the parser has 64 KiB
 *   shmheap_tag_pop(mem);
 * @endcode
 *
 * A tag is the thread's: what it allocates in the heap is counted under the tag that it pushed last
 * and did not pop; else under the one of shmheap_set_thread_tag(); else under the one that the
 * environment variable SHMHEAP_TAG named when the process connected; else under "", which stands
 * for none. What shmheap_realloc() resizes in place keeps its tag and process; what it moves is
 * counted under those of who moves it.
 *
 * Bytes are those of objects as they are rounded up. An object counts until it is freed, by
 * whomever, also when the process that allocated it is gone. All errors are as in shmheap.h.
 */
#ifndef SHMHEAP_LABELS_H
#define SHMHEAP_LABELS_H

#include <shmheap.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * For `flags` of shmheap_options: objects are counted. An allocation and its free take some hundred
 * nanoseconds more, and processes share counters, so that they do not scale. Takes 353 KiB, and of
 * object space some percent more.
 */
#define SHMHEAP_LABELS 32u

/**
 * Has this thread's allocations counted under @p tag, until shmheap_tag_pop(). Tags may be pushed
 * above each other. A heap without labels, and a connection that only reads, take tags and count
 * nothing: so a library may use them in any heap.
 *
 * @param tag  at most 48 bytes of UTF-8 without control characters; "" for none.
 * @return 0, or -1: EINVAL (not a tag), EUSERS (the heap has 255 tags already).
 */
SHMHEAP_API int shmheap_tag_push(shmheap_memory_handle mem, const char *tag);

/** Takes back this thread's last push in this heap. @return 0, or -1: EINVAL (there is none). */
SHMHEAP_API int shmheap_tag_pop(shmheap_memory_handle mem);

/**
 * Sets the tag that counts where this thread has pushed none; NULL for that of the process. It
 * stays for this heap until it is set again.
 *
 * @return 0, or -1: as shmheap_tag_push().
 */
SHMHEAP_API int shmheap_set_thread_tag(shmheap_memory_handle mem, const char *tag);

/** All objects of the heap. */
#define SHMHEAP_QUOTA_HEAP 1u
/** The objects of a process; as a quota, of each process by itself. */
#define SHMHEAP_QUOTA_PEER 2u
/** The objects of a tag. */
#define SHMHEAP_QUOTA_TAG 3u

/** In place of bytes: no quota. */
#define SHMHEAP_NO_QUOTA UINT64_MAX

/**
 * Sets how many bytes of objects something may have, for every process, from now on. An allocation
 * that would go beyond it fails with EDQUOT; what is allocated stays, also if it is more.
 *
 * @param kind   SHMHEAP_QUOTA_HEAP, SHMHEAP_QUOTA_PEER or SHMHEAP_QUOTA_TAG.
 * @param tag    with SHMHEAP_QUOTA_TAG the tag, "" for objects without one; else NULL.
 * @param bytes  the quota, or SHMHEAP_NO_QUOTA to take it away.
 * @return 0, or -1: EOPNOTSUPP (the heap was made without labels), EINVAL, EROFS (connected
 *         read-only), EUSERS (the heap has 255 tags already).
 */
SHMHEAP_API int shmheap_set_quota(shmheap_memory_handle mem, uint32_t kind, const char *tag,
                                  uint64_t bytes);

/** What the heap, a tag or a process has. Later versions add fields at the end. */
typedef struct shmheap_usage_entry {
    uint32_t kind;    /**< whose it is: SHMHEAP_QUOTA_* */
    uint32_t pid;     /**< of a process: its number, in its own PID namespace; else 0 */
    uint32_t slot;    /**< of a process: its number within the heap, or what that was; else 0 */
    uint32_t alive;   /**< of a process: 1 while it is connected; else 0 */
    const char *tag;  /**< of a tag: its name, "" for objects without one; else NULL */
    uint64_t bytes;   /**< bytes of its objects */
    uint64_t objects; /**< how many these are */
    uint64_t quota;   /**< bytes that it may have, or SHMHEAP_NO_QUOTA */
} shmheap_usage_entry;

/**
 * Calls @p visit for the heap, then for each tag, then for each process that has objects or is
 * connected and had some; ends when it returns other than 0. The entry and its tag stand until
 * @p visit returns. It may call any function of this library.
 *
 * What others change meanwhile is seen before or after. A process killed in the middle of an
 * allocation or a free may leave a number too high, by that object, until it is counted anew: by
 * `shmheap gc`, or an allocation that a quota refuses.
 *
 * @return 0, what @p visit returned, or -1: EOPNOTSUPP (the heap was made without labels), EINVAL.
 */
SHMHEAP_API int shmheap_usage(shmheap_memory_handle mem,
                              int (*visit)(const shmheap_usage_entry *entry, void *context),
                              void *context);

#ifdef __cplusplus
}
#endif

#endif /* SHMHEAP_LABELS_H */
