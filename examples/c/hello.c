/*
 * Two shells, one heap: the first program allocates a text, the second reads and frees it.
 *
 *   cc hello.c $(pkg-config --cflags --libs shmheap) -o hello
 *
 *   first shell                      second shell
 *   ./hello create
 *   ./hello send "good morning"
 *   188416                           ./hello recv 188416
 *                                    good morning
 *   ./hello destroy
 *
 * The number is the object's handle: it means the same in every process that is connected. The
 * environment variable HELLO_HEAP names another heap than /hello.
 */
#include <shmheap.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what) {
    fprintf(stderr, "hello: cannot %s: %s\n", what, shmheap_last_error());
    return EXIT_FAILURE;
}

static int create(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, 1 << 20);
    if (mem == NULL) {
        return fail("create the heap");
    }
    shmheap_disconnect(mem); /* the heap stays */
    return EXIT_SUCCESS;
}

static int send_text(shmheap_memory_handle mem, const char *text) {
    char *object = (char *)shmheap_alloc(mem, strlen(text) + 1);
    if (object == NULL) {
        return fail("allocate");
    }
    strcpy(object, text);
    printf("%zu\n", shmheap_ptr_to_handle(mem, object));
    return EXIT_SUCCESS;
}

static int receive_text(shmheap_memory_handle mem, const char *number) {
    char *object = (char *)shmheap_handle_to_ptr(mem, strtoull(number, NULL, 0));
    if (object == NULL) {
        return fail("find the object");
    }
    puts(object);
    shmheap_free(mem, object);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    const char *heap = getenv("HELLO_HEAP") != NULL ? getenv("HELLO_HEAP") : "/hello";
    const char *verb = argc > 1 ? argv[1] : "";
    int status = 2;

    if (argc == 2 && strcmp(verb, "create") == 0) {
        return create(heap);
    }
    if (argc == 2 && strcmp(verb, "destroy") == 0) {
        return shmheap_destroy_with(heap, NULL, 0) == 0 ? EXIT_SUCCESS : fail("destroy the heap");
    }
    if (argc == 3 && (strcmp(verb, "send") == 0 || strcmp(verb, "recv") == 0)) {
        shmheap_memory_handle mem = shmheap_connect(heap);
        if (mem == NULL) {
            return fail("connect");
        }
        status = verb[0] == 's' ? send_text(mem, argv[2]) : receive_text(mem, argv[2]);
        shmheap_disconnect(mem);
        return status;
    }
    fprintf(stderr, "usage: hello create | send TEXT | recv HANDLE | destroy\n");
    return status;
}
