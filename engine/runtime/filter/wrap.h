#include <stddef.h>

// A compiled program lies in the collection behind a key of 32 bytes, the size
// of its calls and its own, 4 bytes each, and its calls.
enum { filter_key = 32, filter_head = filter_key + 8 };

// filter_know has filters come out of a collection of compiled programs, which
// must stay where it is.
void filter_know(const void *programs, size_t n);

// filter_record has the next filter be written out instead of loaded.
void filter_record(void);

// filter_hits is how many filters came out of the collection.
int filter_hits(void);
