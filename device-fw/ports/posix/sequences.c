/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/posix/sequences.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void sequences_free(struct sequences *s)
{
	free(s->numbers);
	*s = (struct sequences){0};
}

int sequences_add(struct sequences *s, uint32_t number)
{
	if (s->end == s->room && s->first > 0) {
		memmove(s->numbers, s->numbers + s->first,
			(s->end - s->first) * sizeof(*s->numbers));
		s->end -= s->first;
		s->first = 0;
	}
	if (s->end == s->room) {
		size_t room = s->room ? 2 * s->room : 16;
		uint32_t *numbers = reallocarray(s->numbers, room, sizeof(*numbers));

		if (!numbers)
			return -ENOMEM;
		s->numbers = numbers;
		s->room = room;
	}
	s->numbers[s->end++] = number;
	return 0;
}

size_t sequences_take(struct sequences *s, uint32_t last, size_t count, const uint32_t **numbers)
{
	size_t begin = s->first;

	while (s->first < s->end && s->numbers[s->first] <= last)
		s->first++;
	if (s->first - begin > count)
		begin = s->first - count;
	*numbers = s->numbers + begin;
	return s->first - begin;
}
