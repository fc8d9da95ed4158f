#include <stdio.h>
#include <stdlib.h>

const char *adjective(void);

int main(void) {
  const char *greeting = getenv("GREETING");
  printf("%s, on one %s machine.\n", greeting ? greeting : "Hello", adjective());
  return 0;
}
