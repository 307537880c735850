/* The headers need nothing before them, and may be included twice. */
#include <shmheap/labels.h>
#include <shmheap.h>
#include <shmheap/labels.h>
#include <shmheap.h>

int main(void) {
    return shmheap_version()[0] == 0;
}
