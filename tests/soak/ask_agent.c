/* Runs in a build step: asks the ssh agent for its keys and prints how many there are. Linked statically. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(void) {
  const char* path = getenv("SSH_AUTH_SOCK");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (path == NULL || strlen(path) >= sizeof address.sun_path) return 2;
  strcpy(address.sun_path, path);
  int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (s < 0 || connect(s, (struct sockaddr*)&address, sizeof address) != 0) return 3;
  const unsigned char list_keys[] = {0, 0, 0, 1, 11};
  if (write(s, list_keys, sizeof list_keys) != sizeof list_keys) return 4;
  unsigned char answer[9]; /* length, 12 = "these keys", their number */
  for (size_t have = 0; have < sizeof answer;) {
    ssize_t n = read(s, answer + have, sizeof answer - have);
    if (n <= 0) return 5;
    have += (size_t)n;
  }
  if (answer[4] != 12) return 6;
  printf("%d keys\n", answer[8]);
  return 0;
}
