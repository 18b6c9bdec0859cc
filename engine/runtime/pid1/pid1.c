//go:build cgo

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

// Docker's exit codes of a command that was found and cannot be run, and of one
// that was not found.
enum { CANNOT_RUN = 126, NOT_FOUND = 127 };

static void heard(int sig) { (void)sig; }

// run becomes the command, in a process group of its own that has the terminal,
// where there is one: SIGTTOU is blocked as everything is, so that it may take it.
static void run(char **command, const sigset_t *mask)
{
	setpgid(0, 0);
	if (isatty(0))
		tcsetpgrp(0, getpid());
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(command[0], command);
	int err = errno;
	dprintf(2, "init: %s: %s\n", command[0], err == ENOENT ? "executable file not found in $PATH" : strerror(err));
	_exit(err == EACCES || err == EPERM || err == ENOEXEC ? CANNOT_RUN : NOT_FOUND);
}

// reap takes every zombie off the table, and tells whether the command was among
// them, and its exit code.
static int reap(pid_t command, int *code)
{
	int over = 0, status;
	for (;;) {
		pid_t pid = waitpid(-1, &status, WNOHANG);
		if (pid < 0 && errno == EINTR)
			continue;
		if (pid <= 0)
			return over;
		if (pid != command)
			continue;
		over = 1;
		*code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	}
}

// Every signal is blocked, and waited for: so none is lost, and none ends this
// process. Each has a handler too, though it never runs: by that a keeper sees that
// a stop signal is heard (SigCgt of proc(5)), for the kernel throws signals to the
// first process away that have none (pid_namespaces(7)).
static int watch(char **command)
{
	sigset_t all, before;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	struct sigaction hear = {.sa_handler = heard};
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		sigaction(sig, &hear, NULL); // refused for SIGKILL and SIGSTOP
	pid_t pid = fork();
	if (pid < 0) {
		dprintf(2, "init: fork: %s\n", strerror(errno));
		return CANNOT_RUN;
	}
	if (pid == 0)
		run(command, &before);
	for (int code = 0;;) {
		int sig = sigwaitinfo(&all, NULL);
		if (sig == SIGCHLD) {
			if (reap(pid, &code))
				return code;
		} else if (sig > 0) {
			kill(pid, sig);
		}
	}
}

__attribute__((constructor)) static void pid1(int argc, char **argv)
{
	if (argc < 2 || strcmp(argv[1], "pid1") != 0)
		return;
	int first = argc > 2 && strcmp(argv[2], "--") == 0 ? 3 : 2;
	if (first >= argc) {
		dprintf(2, "init: no command\n");
		_exit(NOT_FOUND);
	}
	_exit(watch(argv + first));
}
