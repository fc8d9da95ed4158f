const char *adjective(void) { return "warm"; }
