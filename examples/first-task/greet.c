/* A small program for an agent to build. */
#include <stdio.h>

int
main(int argc, char **argv)
{
	printf("Hello from %s!\n", argc > 1 ? argv[1] : "a cell");
	return 0;
}
