# Sourced: a Debian of one's own in a folder, from wherever this machine gets its packages. Needs root, apt and chroot.
# shellcheck shell=bash

MACHINE_CERT=/etc/machine-ca.crt

debian_cache() { # prints the folder where base systems and debootstrap are kept between runs
    local folder="${XDG_CACHE_HOME:-$HOME/.cache}/deploy-watchdog-tests/bases"
    mkdir -p "$folder" && echo "$folder"
}

debian_needs() { # WHAT: says what is missing for WHAT, and returns 1
    local missing=()
    [ "$(id -u)" = 0 ] || missing+=("root")
    for tool in apt-get dpkg chroot unshare mount tar wget; do command -v "$tool" >/dev/null || missing+=("$tool"); done
    [ ${#missing[@]} -eq 0 ] || { echo "$1 did NOT run; it needs ${missing[*]}" >&2; return 1; }
}

debian_sources() { # sources.list lines of this machine's own Debian: its release, updates and security
    local codename
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v of="$codename" '$3 ~ "^" of "(-updates|-security)?$" && !seen[$0]++'
}

debian_base() { # prints a tar of a minimal base system; made once (a minute or two)
    local codename tar made mirror
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    tar="$(debian_cache)/$codename-minbase.tar"
    if [ ! -e "$tar" ]; then
        mirror=$(debian_sources | awk -v of="$codename" '$3 == of { print $2; exit }')
        [ -n "$mirror" ] || { echo "the apt sources of this machine name no mirror of $codename" >&2; return 1; }
        made=$(mktemp -d)
        if ! command -v debootstrap >/dev/null; then
            (cd "$made" && apt-get download -qq debootstrap && dpkg -x debootstrap_*.deb unpacked)
            export DEBOOTSTRAP_DIR="$made/unpacked/usr/share/debootstrap"
        fi
        echo "making a minimal $codename ..." >&2
        "${DEBOOTSTRAP_DIR:+$made/unpacked/usr/sbin/}debootstrap" --variant=minbase "$codename" "$made/root" "$mirror" >"$made/log" 2>&1 ||
            { tail -5 "$made/log" >&2; return 1; }
        debian_sources >"$made/root/etc/apt/sources.list"
        rm -rf "$made/root/var/cache/apt/archives/"*.deb "$made/root/var/lib/apt/lists/"*
        tar -C "$made/root" --numeric-owner -cf "$tar.part" . && mv "$tar.part" "$tar"
        rm -rf "$made"
    fi
    echo "$tar"
}

debian_unpack() { # ROOT: the base system, able to reach what this machine reaches
    mkdir -p "$1" && tar -C "$1" --numeric-owner -xf "$(debian_base)"
    cp /etc/resolv.conf /etc/hosts "$1/etc/"
    # The authorities that this machine trusts, and its proxies: a mirror inside a company has its own.
    # Not where the package ca-certificates writes its own; a machine without any trusts what pip brings.
    [ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$1$MACHINE_CERT"
    apt-config dump | grep -E '^Acquire::(https?|ftp)::Proxy' >"$1/etc/apt/apt.conf.d/90machine" || true
}

# ROOT COMMAND...: run in it as root, with /proc and /dev of its own in a mount namespace that ends with the command.
debian_run() {
    local root="$1"
    shift
    unshare --mount --propagation private bash -euc '
        mount --bind "$0" "$0" && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev"
        exec chroot "$0" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"' "$root" "$@"
}

debian_install() { # ROOT PACKAGE...
    local root="$1"
    shift
    debian_run "$root" sh -euc 'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null' sh "$@"
}

pip_settings() { # how pip on this machine finds packages, as NAME=value for the other side; folders stay behind
    env | grep -E '^(PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT)|UV_[A-Z_]*INDEX[A-Z_]*|(HTTPS?|NO|ALL)_PROXY|(https?|no|all)_proxy)=' || true
    [ ! -e /etc/ssl/certs/ca-certificates.crt ] || echo "PIP_CERT=$MACHINE_CERT"
}
