/* What a program of twenty years ago does: 32 bits, no large files. It lists DIRECTORY, and looks at, opens and reads
 * everything in it; the errno of whatever fails goes to stderr. Usage: old32 DIRECTORY */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int failed;

static void check(int ok, const char *what, const char *name)
{
    if (!ok) {
        fprintf(stderr, "%s %s: %s\n", what, name, strerror(errno));
        failed = 1;
    }
}

int main(int count, char **arguments)
{
    char path[4096], byte;
    struct dirent *entry;
    struct stat named, opened;
    DIR *directory = opendir(arguments[count - 1]);

    check(directory != NULL, "opendir", arguments[count - 1]);
    check(sizeof(void *) == 4 && sizeof named.st_ino == 4, "what this program is about", "32 bits");
    while (directory && (errno = 0, entry = readdir(directory)) != NULL) {
        FILE *file;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", arguments[count - 1], entry->d_name);
        check(stat(path, &named) == 0, "stat", path);
        check(named.st_ino == entry->d_ino, "d_ino", path);
        if (S_ISREG(named.st_mode)) {
            file = fopen(path, "r");
            check(file != NULL, "fopen", path);
            if (file) {
                check(fstat(fileno(file), &opened) == 0 && opened.st_ino == named.st_ino, "fstat", path);
                check(fread(&byte, 1, 1, file) == 1, "fread", path);
                fclose(file);
            }
        }
        puts(entry->d_name);
    }
    check(errno == 0, "readdir", arguments[count - 1]);
    return failed;
}
