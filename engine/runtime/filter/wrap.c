//go:build cgo && seccomp

// The calls by which libcontainer builds a filter are taken by the linker's
// --wrap, noted down, and compared byte by byte with those that a compiled
// program was made from. Where they are the same, the rules are never added and
// the program is handed out as it is; where they are not, everything noted is
// done for real, so that the filter is in either case what libseccomp would
// make of the calls.

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "wrap.h"

scmp_filter_ctx __real_seccomp_init(uint32_t);
void __real_seccomp_release(scmp_filter_ctx);
int __real_seccomp_arch_add(scmp_filter_ctx, uint32_t);
int __real_seccomp_arch_remove(scmp_filter_ctx, uint32_t);
int __real_seccomp_attr_set(scmp_filter_ctx, enum scmp_filter_attr, uint32_t);
int __real_seccomp_rule_add_array(scmp_filter_ctx, uint32_t, int, unsigned int, const struct scmp_arg_cmp *);
int __real_seccomp_rule_add_exact_array(scmp_filter_ctx, uint32_t, int, unsigned int, const struct scmp_arg_cmp *);
int __real_seccomp_syscall_priority(scmp_filter_ctx, int, uint8_t);
int __real_seccomp_export_bpf(const scmp_filter_ctx, int);

static struct {
	scmp_filter_ctx ctx;
	uint8_t *p; // the calls so far
	size_t n, cap;
	size_t done;  // how many of its bytes have been done for real
	int plain;    // something came that is not noted: no comparing any more
	int recording;
	int hits;             // filters that were known
	const uint8_t *known; // the compiled programs
	size_t known_n;
} f;

// Go's finalizers release filters on threads of their own.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void note(const void *p, size_t n)
{
	if (f.plain)
		return;
	if (f.n + n > f.cap) {
		size_t cap = 2 * f.cap + n + 4096;
		uint8_t *q = realloc(f.p, cap);
		if (q == NULL) {
			f.plain = 1;
			return;
		}
		f.p = q;
		f.cap = cap;
	}
	memcpy(f.p + f.n, p, n);
	f.n += n;
}

static void note4(uint8_t what, uint32_t a, uint32_t b)
{
	uint8_t e[9];
	e[0] = what;
	memcpy(e + 1, &a, 4);
	memcpy(e + 5, &b, 4);
	note(e, sizeof e);
}

// A rule is 'R', action, call, count, and per condition argument, comparison
// and two values.
enum { entry = 9, rule = 13, condition = 24 };

// catch_up adds the rules that were only noted.
static int catch_up(void)
{
	size_t at = f.done;
	f.done = f.n;
	while (at < f.n) {
		const uint8_t *e = f.p + at;
		if (e[0] != 'R') {
			at += entry;
			continue;
		}
		uint32_t action, count;
		int call;
		memcpy(&action, e + 1, 4);
		memcpy(&call, e + 5, 4);
		memcpy(&count, e + 9, 4);
		struct scmp_arg_cmp args[6];
		for (uint32_t i = 0; i < count; i++) {
			const uint8_t *c = e + rule + (size_t)i * condition;
			uint32_t arg, op;
			memcpy(&arg, c, 4);
			memcpy(&op, c + 4, 4);
			args[i].arg = arg;
			args[i].op = op;
			memcpy(&args[i].datum_a, c + 8, 8);
			memcpy(&args[i].datum_b, c + 16, 8);
		}
		int rc = __real_seccomp_rule_add_array(f.ctx, action, call, count, count ? args : NULL);
		if (rc != 0)
			return rc;
		at += rule + (size_t)count * condition;
	}
	return 0;
}

// strange is a call that is not noted: from here on all is done for real.
static int strange(void)
{
	if (f.plain)
		return 0;
	int rc = catch_up();
	f.plain = 1;
	return rc;
}

// The kernel's abilities and the library's version decide about the program
// too, so they are noted first. A filter that is still open when the next one
// is begun gets its rules before it is lost sight of.
scmp_filter_ctx __wrap_seccomp_init(uint32_t action)
{
	pthread_mutex_lock(&lock);
	scmp_filter_ctx ctx = NULL;
	if (f.ctx == NULL || strange() == 0) {
		ctx = __real_seccomp_init(action);
		f.ctx = ctx;
		f.n = f.done = 0;
		f.plain = ctx == NULL;
		uint32_t version = SCMP_VER_MAJOR << 16 | SCMP_VER_MINOR << 8 | SCMP_VER_MICRO;
		note4('I', action, version | seccomp_api_get() << 24);
	}
	pthread_mutex_unlock(&lock);
	return ctx;
}

void __wrap_seccomp_release(scmp_filter_ctx ctx)
{
	pthread_mutex_lock(&lock);
	if (ctx == f.ctx)
		f.ctx = NULL;
	__real_seccomp_release(ctx);
	pthread_mutex_unlock(&lock);
}

static int seccomp_arch_add_noted(scmp_filter_ctx ctx, uint32_t arch)
{
	int rc = __real_seccomp_arch_add(ctx, arch);
	if (ctx == f.ctx)
		note4('A', arch, rc);
	return rc;
}

static int seccomp_arch_remove_noted(scmp_filter_ctx ctx, uint32_t arch)
{
	int rc = __real_seccomp_arch_remove(ctx, arch);
	if (ctx == f.ctx)
		note4('D', arch, rc);
	return rc;
}

static int seccomp_attr_set_noted(scmp_filter_ctx ctx, enum scmp_filter_attr attr, uint32_t value)
{
	int rc = __real_seccomp_attr_set(ctx, attr, value);
	if (ctx == f.ctx)
		note4('S', (uint32_t)attr << 16 | (uint16_t)rc, value);
	return rc;
}

static int seccomp_rule_add_array_noted(scmp_filter_ctx ctx, uint32_t action, int call, unsigned int count, const struct scmp_arg_cmp *args)
{
	if (ctx == f.ctx && count > 6) {
		int rc = strange();
		if (rc != 0)
			return rc;
	}
	if (ctx != f.ctx || f.plain)
		return __real_seccomp_rule_add_array(ctx, action, call, count, args);
	uint8_t e[rule + 6 * condition];
	memset(e, 0, sizeof e);
	e[0] = 'R';
	memcpy(e + 1, &action, 4);
	memcpy(e + 5, &call, 4);
	memcpy(e + 9, &count, 4);
	for (unsigned int i = 0; i < count; i++) {
		uint8_t *c = e + rule + (size_t)i * condition;
		uint32_t arg = args[i].arg, op = args[i].op;
		memcpy(c, &arg, 4);
		memcpy(c + 4, &op, 4);
		memcpy(c + 8, &args[i].datum_a, 8);
		memcpy(c + 16, &args[i].datum_b, 8);
	}
	note(e, rule + (size_t)count * condition);
	if (f.plain) { // out of memory: what was noted comes first
		int rc = catch_up();
		return rc != 0 ? rc : __real_seccomp_rule_add_array(ctx, action, call, count, args);
	}
	return f.known_n > 0 ? 0 : catch_up();
}

static int seccomp_rule_add_exact_array_noted(scmp_filter_ctx ctx, uint32_t action, int call, unsigned int count, const struct scmp_arg_cmp *args)
{
	int rc = ctx == f.ctx ? strange() : 0;
	return rc != 0 ? rc : __real_seccomp_rule_add_exact_array(ctx, action, call, count, args);
}

static int seccomp_syscall_priority_noted(scmp_filter_ctx ctx, int call, uint8_t priority)
{
	int rc = ctx == f.ctx ? strange() : 0;
	return rc != 0 ? rc : __real_seccomp_syscall_priority(ctx, call, priority);
}

static int write_all(int fd, const uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, p, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return -ECANCELED;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

// known finds the program that was made from the very calls noted.
static const uint8_t *known(size_t *size)
{
	const uint8_t *p = f.known, *end = f.known + f.known_n;
	while ((size_t)(end - p) >= filter_head) {
		uint32_t calls, program;
		memcpy(&calls, p + filter_key, 4);
		memcpy(&program, p + filter_key + 4, 4);
		p += filter_head;
		if ((size_t)(end - p) < (size_t)calls + program)
			return NULL;
		if (calls == f.n && memcmp(p, f.p, calls) == 0) {
			*size = program;
			return p + calls;
		}
		p += (size_t)calls + program;
	}
	return NULL;
}

// record compiles the filter, writes calls and program to standard output and
// ends this process, which was made for nothing else.
static int record(void)
{
	static uint8_t program[1 << 17];
	int fd = memfd_create("filter", MFD_CLOEXEC);
	if (fd < 0)
		_exit(1);
	if (__real_seccomp_export_bpf(f.ctx, fd) != 0)
		_exit(1);
	ssize_t n = pread(fd, program, sizeof program, 0);
	if (n <= 0 || (size_t)n == sizeof program || f.n > UINT32_MAX)
		_exit(1);
	uint32_t sizes[2] = {(uint32_t)f.n, (uint32_t)n};
	if (write_all(1, (uint8_t *)sizes, sizeof sizes) || write_all(1, f.p, f.n) || write_all(1, program, (size_t)n))
		_exit(1);
	_exit(0);
}

static int seccomp_export_bpf_noted(const scmp_filter_ctx ctx, int fd)
{
	if (ctx != f.ctx || f.plain)
		return __real_seccomp_export_bpf(ctx, fd);
	size_t size;
	const uint8_t *program = known(&size);
	if (program != NULL) {
		f.hits++;
		return write_all(fd, program, size);
	}
	int rc = catch_up();
	if (rc != 0)
		return rc;
	if (f.recording)
		return record();
	return __real_seccomp_export_bpf(ctx, fd);
}

void filter_know(const void *programs, size_t n)
{
	f.known = programs;
	f.known_n = n;
}

void filter_record(void) { f.recording = 1; }

int filter_hits(void) { return f.hits; }

int __wrap_seccomp_arch_add(scmp_filter_ctx ctx, uint32_t arch)
{
	pthread_mutex_lock(&lock);
	int rc = seccomp_arch_add_noted(ctx, arch);
	pthread_mutex_unlock(&lock);
	return rc;
}

int __wrap_seccomp_arch_remove(scmp_filter_ctx ctx, uint32_t arch)
{
	pthread_mutex_lock(&lock);
	int rc = seccomp_arch_remove_noted(ctx, arch);
	pthread_mutex_unlock(&lock);
	return rc;
}

int __wrap_seccomp_attr_set(scmp_filter_ctx ctx, enum scmp_filter_attr attr, uint32_t value)
{
	pthread_mutex_lock(&lock);
	int rc = seccomp_attr_set_noted(ctx, attr, value);
	pthread_mutex_unlock(&lock);
	return rc;
}

int __wrap_seccomp_rule_add_array(scmp_filter_ctx ctx, uint32_t action, int call, unsigned int count, const struct scmp_arg_cmp *args)
{
	pthread_mutex_lock(&lock);
	int rc = seccomp_rule_add_array_noted(ctx, action, call, count, args);
	pthread_mutex_unlock(&lock);
	return rc;
}

int __wrap_seccomp_rule_add_exact_array(scmp_filter_ctx ctx, uint32_t action, int call, unsigned int count, const struct scmp_arg_cmp *args)
{
	pthread_mutex_lock(&lock);
	int rc = seccomp_rule_add_exact_array_noted(ctx, action, call, count, args);
	pthread_mutex_unlock(&lock);
	return rc;
}

int __wrap_seccomp_syscall_priority(scmp_filter_ctx ctx, int call, uint8_t priority)
{
	pthread_mutex_lock(&lock);
	int rc = seccomp_syscall_priority_noted(ctx, call, priority);
	pthread_mutex_unlock(&lock);
	return rc;
}

int __wrap_seccomp_export_bpf(const scmp_filter_ctx ctx, int fd)
{
	pthread_mutex_lock(&lock);
	int rc = seccomp_export_bpf_noted(ctx, fd);
	pthread_mutex_unlock(&lock);
	return rc;
}
