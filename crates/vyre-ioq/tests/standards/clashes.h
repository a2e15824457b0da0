/* Macros of system headers, with names that a careless header would use: <utmp.h>, <sys/sysmacros.h>, and
 * <curses.h>, or what it defines where it is not installed. */
#include <utmp.h>

#include <sys/sysmacros.h>

#if defined(__has_include)
#if __has_include(<curses.h>)
#include <curses.h>
#define CLASHES_HAVE_CURSES
#endif
#endif
#ifndef CLASHES_HAVE_CURSES
#define OK (0)
#define ERR (-1)
#define clear() clear_of_curses
#define erase() erase_of_curses
#define move(y, x) move_of_curses
#define refresh() refresh_of_curses
#define timeout(delay) timeout_of_curses
#endif
#ifndef ERROR
#define ERROR error_of_another
#endif
#define FENCE fence_of_another
#define READ read_of_another
#define SYNC sync_of_another
#define WRITE write_of_another
