/* Clocks that can be set for one program: LD_PRELOAD, and a file with two numbers, mapped: by how many seconds the wall clock is
   ahead, and by how many the clock that also counts the time for which the machine slept. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t none[2];
static volatile int64_t *ahead = none;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("LIVES_CLOCK");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	real = dlsym(RTLD_NEXT, "clock_gettime");
	if (file >= 0) {
		void *mapped = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);
		if (mapped != MAP_FAILED)
			ahead = mapped;
		close(file);
	}
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int failed = real ? real(clock, now) : -1;
	if (!failed && clock == CLOCK_REALTIME)
		now->tv_sec += ahead[0];
	if (!failed && clock == CLOCK_BOOTTIME)
		now->tv_sec += ahead[1];
	return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec moment;
	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &moment))
		return -1;
	now->tv_sec = moment.tv_sec;
	now->tv_usec = moment.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *now)
{
	struct timespec moment;
	if (clock_gettime(CLOCK_REALTIME, &moment))
		return -1;
	if (now)
		*now = moment.tv_sec;
	return moment.tv_sec;
}
