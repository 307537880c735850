/* The header needs nothing before it, and may be included twice. */
#include <shmheap.h>
#include <shmheap.h>

int main(void) {
    return shmheap_version()[0] == 0;
}
