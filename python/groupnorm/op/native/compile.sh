#!/bin/sh
# Compile the native kernel: sh compile.sh LIBRARY COMPILER [OPTION...]
#
# TensorFlow need not be there. What the library calls of it is found in the process that
# loads the library.
set -eu
library=$1
shift
here=$(dirname "$0")
case $("$@" -dumpmachine) in
  *darwin* | *macos*) found_later=-Wl,-undefined,dynamic_lookup ;;
  *) found_later=-Wl,-z,undefs ;;
esac
# Nobody asks what errno is, or for a trap: several square roots are taken at a time.
arithmetic="-fno-math-errno -fno-trapping-math"
# In one step: who loads it at the same time sees a whole file.
trap 'rm -f "$library.part"' EXIT
"$@" -std=c++17 -O3 -g0 -fPIC -shared -fvisibility=hidden -pthread -Wno-psabi $arithmetic $found_later \
  "$here/groupnorm_ops.cc" -o "$library.part"
mv "$library.part" "$library"
