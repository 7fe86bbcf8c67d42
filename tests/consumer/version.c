/* The smallest program that uses the library. */
#include <adaptmedseg.h>

#include <stdio.h>

int main(void) {
    printf("%s, ABI %u\n", ams_version(), (unsigned)ams_abi_version());
    return ams_abi_version() == AMS_ABI_VERSION ? 0 : 1;
}
