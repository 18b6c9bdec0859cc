# davit is built, tested and tried with this file; README.md says how.
GO   ?= go
TAGS := seccomp netgo osusergo
DAVIT := bin/davit
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# Containers need the superuser; building does not, and is not done as one.
EXEC := $(shell [ "$$(id -u)" = 0 ] || echo '-exec "sudo -E env PATH=$$PATH"')
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo 'sudo -E')

.PHONY: build install demo images firewalls guest test test-long lint bench growth profile clean deps

# The CLI is pure Go. The runtime is linked against libseccomp and contains
# the C of libcontainer's nsenter. Both are static: ldd finds nothing in them.
build: deps
	CGO_ENABLED=0 $(GO) build -trimpath -tags '$(TAGS)' -ldflags '-s -w -X github.com/davit-run/davit/cmd/cli.Version=$(VERSION)' \
		-o bin/davit ./cmd/davit
	CGO_ENABLED=1 $(GO) build -trimpath -tags '$(TAGS)' \
		-ldflags '-s -w -linkmode external -extldflags -static -X main.version=$(VERSION)' -o bin/davit-runtime ./cmd/davit-runtime

PREFIX ?= /usr/local
install: build
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin bin/davit bin/davit-runtime

# Debian packages: a C compiler, libseccomp, busybox, debootstrap.
deps:
	@sh tests/debian/packages.sh

# busybox, debian, redis, nginx, postgres, node and python, from Debian
# packages, in davit's store. The second time nothing is left to do.
images: build
	@$(GO) run $(EXEC) ./tests/images/makeimages -load $(DAVIT)

# ufw and firewalld from Debian, beside which davit is tested; kept in the cache,
# installed nowhere.
firewalls:
	@$(GO) run $(EXEC) ./tests/images/makeimages debian
	@$(SUDO) sh tests/debian/firewalls.sh

# A Debian guest for QEMU, with systemd as its first process, and the tests
# that run in it; a few minutes, without hardware to run it on.
guest: build
	@$(GO) run $(EXEC) ./tests/images/makeimages busybox debian
	@$(SUDO) sh tests/debian/guest.sh
	DAVIT_LONG=1 $(GO) test $(EXEC) -tags '$(TAGS)' -count 1 -v -timeout 45m -run TestGuest ./tests/guest

demo: images
	@$(SUDO) sh examples/visits/demo.sh $(abspath $(DAVIT))

lint:
	$(GO) vet -tags '$(TAGS)' ./...
	$(GO) tool staticcheck -tags '$(TAGS)' ./...
	@test -z "$$(gofmt -l cmd engine logs netdns project reconcile tests examples)" || \
		{ echo 'not formatted:'; gofmt -l cmd engine logs netdns project reconcile tests examples; exit 1; }

test: build lint
	@$(GO) run $(EXEC) ./tests/images/makeimages
	$(GO) test $(EXEC) -tags '$(TAGS)' -timeout 12m ./...

# The sweeps of which make test runs a tenth.
test-long: build firewalls
	@$(GO) run $(EXEC) ./tests/images/makeimages
	@$(SUDO) sh tests/debian/guest.sh
	DAVIT_LONG=1 $(GO) test $(EXEC) -tags '$(TAGS)' -count 1 -timeout 6h ./...

# PEER="docker compose" puts another runner beside davit in the same run.
CLI  ?= $(abspath $(DAVIT))
PEER ?=
bench: build
	@CGO_ENABLED=0 $(GO) run $(EXEC) ./tests/bench -cli '$(CLI)' -peer '$(PEER)' -baseline tests/bench/baseline.json $(BENCHFLAGS)

# How cost grows with services, names, files and lines: plots for the docs.
growth: build
	@DAVIT_LONG=1 CGO_ENABLED=0 $(GO) run $(EXEC) ./tests/bench -cli '$(CLI)' -peer '$(PEER)' -repeats 3 -growth docs/growth

# make profile SCENARIO="up and down 50": where the time of one scenario of the
# benchmark goes, by process and function. It needs Debian's linux-perf, and
# builds both executables with their symbols.
SCENARIO ?= up and down 50
PROFILE  ?= bin/profile/perf.data
profile: deps
	CGO_ENABLED=0 $(GO) build -trimpath -tags '$(TAGS)' -o bin/profile/davit ./cmd/davit
	CGO_ENABLED=1 $(GO) build -trimpath -tags '$(TAGS)' \
		-ldflags '-linkmode external -extldflags -static' -o bin/profile/davit-runtime ./cmd/davit-runtime
	@CGO_ENABLED=0 $(GO) run $(EXEC) ./tests/bench -cli '$(abspath bin/profile/davit)' -only '$(SCENARIO)' -repeats 3 -profile '$(abspath $(PROFILE))'

clean:
	rm -rf bin
