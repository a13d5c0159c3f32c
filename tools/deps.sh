#!/usr/bin/env bash
# Installs the system packages that building, testing and the demo need, if they are missing:
# SoftHSM2 (the token), OpenSC (pkcs11-tool), NSS (a second module to test on), PostgreSQL (whose
# servers tests start by themselves), OpenSSL and OpenSSH's client (which verify what the token
# has signed) and a C compiler (the PKCS#11 shim is cgo).
# Silent when nothing is missing; exits non-zero, and says what to install, where it cannot.
set -euo pipefail

have() { command -v "$1" >/dev/null 2>&1; }

GO=${GO:-go}
have "$GO" || {
  echo "deps: the Go toolchain is missing: install Go 1.26 or newer (https://go.dev/dl/) and put it on PATH" >&2
  exit 1
}

# The compiler that cgo will call, with the C library's headers: one without the other is not enough.
have_compiler() {
  local cc
  cc=$("$GO" env CC)
  $cc -x c -fsyntax-only - >/dev/null 2>&1 <<<$'#include <dlfcn.h>\n#include <stdlib.h>\nint main(void) { return 0; }'
}

# Another PKCS#11 module, which the tests of the HSM layer run on too.
have_nss() {
  local dir
  for dir in /usr/lib/*-linux-gnu /usr/lib/*-linux-gnu/nss /usr/lib64 /usr/lib /opt/homebrew/lib /usr/local/lib; do
    [ ! -e "$dir/libsoftokn3.so" ] && [ ! -e "$dir/libsoftokn3.dylib" ] || return 0
  done
  return 1
}

# The programs of a PostgreSQL server, which packages keep off PATH. The tests look in the same
# places (softhsm-test/pgtest).
have_postgresql() {
  local dir
  for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql@*/bin \
    /usr/local/opt/postgresql@*/bin "$(dirname "$(command -v initdb 2>/dev/null || echo /none/initdb)")"; do
    [ ! -x "$dir/initdb" ] || [ ! -x "$dir/postgres" ] || [ ! -x "$dir/pg_ctl" ] ||
      [ ! -x "$dir/pg_basebackup" ] || return 0
  done
  return 1
}

have_openssh() { have ssh && have ssh-keygen; }

missing=()
have_compiler || missing+=(compiler)
have softhsm2-util || missing+=(softhsm)
have pkcs11-tool || missing+=(opensc)
have_nss || missing+=(nss)
have_postgresql || missing+=(postgresql)
have openssl || missing+=(openssl)
have_openssh || missing+=(openssh)
[ ${#missing[@]} -gt 0 ] || exit 0

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    echo "deps: root is needed, and there is no sudo: run this as root: $*" >&2
    exit 1
  fi
}

# Debian's server package also makes a cluster of the machine's own, which listens on port 5432 from
# then on. The tests need the programs only, so the package is told not to, by a file that is
# there while apt-get runs: nothing of the machine's configuration stays changed. Whoever wants that
# cluster later makes it with pg_createcluster. With a server package installed, this never runs.
no_main_cluster() {
  local dir=/etc/postgresql-common/createcluster.d
  trap "as_root rm -f $dir/keyholt-deps.conf; as_root rmdir $dir 2>/dev/null || true" EXIT
  as_root mkdir -p "$dir"
  echo 'create_main_cluster = false' | as_root tee "$dir/keyholt-deps.conf" >/dev/null
}

with_apt() {
  local packages=() need
  for need in "${missing[@]}"; do
    case $need in
      compiler) packages+=(gcc libc6-dev) ;;
      softhsm) packages+=(softhsm2) ;;
      opensc) packages+=(opensc) ;;
      nss) packages+=(libnss3) ;;
      postgresql)
        packages+=(postgresql)
        no_main_cluster
        ;;
      openssl) packages+=(openssl) ;;
      openssh) packages+=(openssh-client) ;;
    esac
  done
  echo "deps: installing ${packages[*]}" >&2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
}

with_brew() {
  local packages=() need
  for need in "${missing[@]}"; do
    case $need in
      compiler)
        echo "deps: the C compiler is missing: run 'xcode-select --install', then try again" >&2
        exit 1
        ;;
      softhsm) packages+=(softhsm) ;;
      opensc) packages+=(opensc) ;;
      nss) packages+=(nss) ;;
      postgresql) packages+=(postgresql@15) ;;
      openssl) packages+=(openssl@3) ;;
      openssh) packages+=(openssh) ;;
    esac
  done
  echo "deps: installing ${packages[*]}" >&2
  brew install "${packages[@]}"
}

by_hand() {
  local need
  echo "deps: no apt-get or brew here: install by hand, then try again:" >&2
  for need in "${missing[@]}"; do
    case $need in
      compiler) echo "  - a C compiler with the C library's headers (gcc and libc headers, or clang)" >&2 ;;
      softhsm) echo "  - SoftHSM 2.6 (softhsm2-util must be on PATH)" >&2 ;;
      opensc) echo "  - OpenSC (pkcs11-tool must be on PATH)" >&2 ;;
      nss) echo "  - NSS (libsoftokn3)" >&2 ;;
      postgresql) echo "  - the server programs of PostgreSQL 15 or newer (initdb, postgres, pg_ctl, pg_basebackup)" >&2 ;;
      openssl) echo "  - the openssl program, 3.0 or newer" >&2 ;;
      openssh) echo "  - OpenSSH's client (ssh and ssh-keygen must be on PATH)" >&2 ;;
    esac
  done
  exit 1
}

if have apt-get; then
  with_apt
elif [ "$(uname -s)" = Darwin ] && have brew; then
  with_brew
else
  by_hand
fi

# A package that installed without giving what it was installed for must not pass unnoticed.
have_compiler && have softhsm2-util && have pkcs11-tool && have_nss && have_postgresql &&
  have openssl && have_openssh || {
  echo "deps: installed, but softhsm2-util, pkcs11-tool, NSS, PostgreSQL, openssl, ssh or a working C compiler is still not found" >&2
  exit 1
}
