/*
 * A parent and an exec'd child that exchange objects: only handles go through the pipes.
 *
 *   cc pipe.c $(pkg-config --cflags --libs shmheap) -o pipe
 *   ./pipe
 *
 * The parent puts words into the heap and sends their handles. The child answers each with the
 * handle of a new object, the word in capitals, and frees the parent's; the parent prints and frees
 * the answers.
 */
#define _POSIX_C_SOURCE 200809L
#include <shmheap.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void stop(const char *what) {
    fprintf(stderr, "pipe: cannot %s: %s\n", what, shmheap_last_error());
    exit(EXIT_FAILURE);
}

/* A copy of the word in the heap. */
static char *put(shmheap_memory_handle mem, const char *word) {
    char *object = (char *)shmheap_alloc(mem, strlen(word) + 1);
    if (object == NULL) {
        stop("allocate");
    }
    return strcpy(object, word);
}

static void send_object(int pipe, shmheap_memory_handle mem, char *object) {
    shmheap_object_handle hdl = shmheap_ptr_to_handle(mem, object);
    if (hdl == 0 || write(pipe, &hdl, sizeof hdl) != (ssize_t)sizeof hdl) {
        stop("send a handle");
    }
}

/* The object whose handle comes next, or NULL at the end. */
static char *receive_object(int pipe, shmheap_memory_handle mem) {
    shmheap_object_handle hdl;
    char *object;
    /* A pipe delivers 8 bytes that were written at once in one piece. */
    if (read(pipe, &hdl, sizeof hdl) != (ssize_t)sizeof hdl) {
        return NULL;
    }
    object = (char *)shmheap_handle_to_ptr(mem, hdl);
    if (object == NULL) {
        stop("find the object of a handle");
    }
    return object;
}

static int child(const char *heap) {
    shmheap_memory_handle mem = shmheap_connect(heap);
    char *word;
    if (mem == NULL) {
        stop("connect");
    }
    while ((word = receive_object(STDIN_FILENO, mem)) != NULL) {
        char *answer = put(mem, word), *letter;
        shmheap_free(mem, word);
        for (letter = answer; *letter != 0; letter++) {
            *letter = (char)toupper((unsigned char)*letter);
        }
        send_object(STDOUT_FILENO, mem, answer);
    }
    shmheap_disconnect(mem);
    return EXIT_SUCCESS;
}

static pid_t start_child(const char *program, const char *heap, int *to_child, int *from_child) {
    int down[2], up[2];
    pid_t process;
    if (pipe(down) != 0 || pipe(up) != 0 || (process = fork()) < 0) {
        perror("pipe");
        exit(EXIT_FAILURE);
    }
    if (process == 0) {
        dup2(down[0], STDIN_FILENO);
        dup2(up[1], STDOUT_FILENO);
        close(down[1]); /* else the child would never see the end of its input */
        execl(program, program, heap, (char *)NULL);
        _exit(127);
    }
    close(down[0]);
    close(up[1]);
    *to_child = down[1];
    *from_child = up[0];
    return process;
}

static int parent(const char *program) {
    static const char *const words[] = {"malloc", "for", "shared", "memory"};
    char heap[64], *answer;
    int to_child, from_child, status = EXIT_FAILURE;
    shmheap_memory_handle mem;
    pid_t process;
    size_t index;

    snprintf(heap, sizeof heap, "/pipe-example-%ld", (long)getpid());
    mem = shmheap_create(heap, 1 << 20);
    if (mem == NULL) {
        stop("create the heap");
    }
    process = start_child(program, heap, &to_child, &from_child);
    for (index = 0; index < sizeof words / sizeof *words; index++) {
        send_object(to_child, mem, put(mem, words[index]));
        answer = receive_object(from_child, mem);
        if (answer == NULL) {
            break;
        }
        printf("%s -> %s\n", words[index], answer);
        shmheap_free(mem, answer);
    }
    close(to_child);
    waitpid(process, &status, 0);
    shmheap_destroy(heap, mem);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

int main(int argc, char **argv) {
    return argc == 2 ? child(argv[1]) : parent(argv[0]);
}
