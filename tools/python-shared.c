/* The Python interpreter as a user of its shared library.
 *
 * Debian's own program has the library built in, and an R that runs inside it cannot
 * find it there: reticulate wants a shared one. */
#include <Python.h>

int main(int argc, char **argv) { return Py_BytesMain(argc, argv); }
