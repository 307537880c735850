/* Prints the headers' structs as this compiler lays them out: struct, field, offset, size. */
#include <shmheap/labels.h>
#include <stdio.h>

#define FIELD(type, field)                                                                         \
    printf("%s %s %lu %lu\n", #type, #field, (unsigned long)offsetof(type, field),                 \
           (unsigned long)sizeof(((type *)0)->field))
#define WHOLE(type) printf("%s sizeof 0 %lu\n", #type, (unsigned long)sizeof(type))

int main(void) {
    WHOLE(shmheap_memory_handle);
    WHOLE(shmheap_object_handle);
    WHOLE(shmheap_options);
    FIELD(shmheap_options, size);
    FIELD(shmheap_options, len);
    FIELD(shmheap_options, max_len);
    FIELD(shmheap_options, granule);
    FIELD(shmheap_options, mode);
    FIELD(shmheap_options, policy);
    FIELD(shmheap_options, flags);
    FIELD(shmheap_options, group);
    FIELD(shmheap_options, reserved);
    FIELD(shmheap_options, address);
    WHOLE(shmheap_statistics);
    FIELD(shmheap_statistics, size);
    FIELD(shmheap_statistics, len);
    FIELD(shmheap_statistics, max_len);
    FIELD(shmheap_statistics, live_bytes);
    FIELD(shmheap_statistics, live_objects);
    FIELD(shmheap_statistics, free_bytes);
    FIELD(shmheap_statistics, largest_free);
    FIELD(shmheap_statistics, metadata_bytes);
    FIELD(shmheap_statistics, operations);
    FIELD(shmheap_statistics, peers_alive);
    FIELD(shmheap_statistics, peers_dead);
    FIELD(shmheap_statistics, tail_bytes);
    FIELD(shmheap_statistics, trimmed_bytes);
    WHOLE(shmheap_mutex);
    FIELD(shmheap_mutex, word);
    WHOLE(shmheap_usage_entry);
    FIELD(shmheap_usage_entry, kind);
    FIELD(shmheap_usage_entry, pid);
    FIELD(shmheap_usage_entry, slot);
    FIELD(shmheap_usage_entry, alive);
    FIELD(shmheap_usage_entry, tag);
    FIELD(shmheap_usage_entry, bytes);
    FIELD(shmheap_usage_entry, objects);
    FIELD(shmheap_usage_entry, quota);
    return 0;
}
