/**
 * @file shmheap.hpp
 * @brief malloc for shared memory, from C++17 on: heaps, pointers, allocators, owners.
 *
 * @code
 *   // One process:
 *   auto heap = shmheap::heap::create("/example", 1 << 20);
 *   using numbers = std::vector<int, shmheap::allocator<int>>;
 *   auto *object = shmheap::construct<numbers>(heap, {1, 2, 3});
 *   send(heap.to_handle(object).raw()); // by pipe, socket, file, ...
 *
 *   // Another:
 *   auto heap = shmheap::heap::connect("/example");
 *   auto *object = heap.resolve(shmheap::handle<numbers>(receive()));
 *   object->push_back(4);
 *   shmheap::destroy(heap, object);
 *   shmheap::heap::destroy("/example");
 * @endcode
 *
 * | | |
 * |---|---|
 * | heap | a connection: create, connect, allocate, handles; shmheap.h with exceptions |
 * | options, policy | what can be chosen for a new heap |
 * | handle<T> | an object's number, the same in every process |
 * | offset_ptr<T> | a pointer that may lie in a heap |
 * | allocator<T> | puts a container's elements into a heap |
 * | construct, destroy | put one object into a heap, and end it |
 * | tag_scope | what is allocated counts under a tag; quotas: shmheap/labels.h |
 * | unique_ptr<T>, make_unique | the same with an owner |
 * | error | what a failed call throws, unless the heap is full: std::bad_alloc |
 *
 * All of it is in headers, above the functions of shmheap.h, and holds what they promise of
 * threads, forks, killed and stopped processes, and sanitizers.
 *
 * Handles are checked; pointers that lie in a heap are not. A process that may write to a heap can
 * have the others follow a pointer to anywhere.
 */
#ifndef SHMHEAP_HPP
#define SHMHEAP_HPP

#include <shmheap.h>
#include <shmheap/allocator.hpp>
#include <shmheap/error.hpp>
#include <shmheap/heap.hpp>
#include <shmheap/labels.hpp>
#include <shmheap/object.hpp>
#include <shmheap/offset_ptr.hpp>

#endif // SHMHEAP_HPP
