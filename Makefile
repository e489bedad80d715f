# SPDX-License-Identifier: MIT
# Drives meson. SAN=1 builds with AddressSanitizer and UndefinedBehaviorSanitizer in a folder of its own.
ifeq ($(SAN),1)
BUILD ?= build-san
SETUP  = -Db_sanitize=address,undefined -Db_lundef=false
else
BUILD ?= build
endif
PREFIX ?= /usr/local
T ?=

.PHONY: all tests check bench fuzz docs format install clean
PROGRAMS = ithaca ithacad ithaca-guest

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet $(PROGRAMS)

$(BUILD)/build.ninja:
	@meson setup $(BUILD) --prefix $(PREFIX) $(SETUP) >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }
	@mv $(BUILD).log $(BUILD)/setup.log

tests: $(BUILD)/build.ninja
	@[ -f $(BUILD)/with-tests ] || { meson setup --reconfigure $(BUILD) -Dtests=true >$(BUILD)/setup.log 2>&1 || \
		{ cat $(BUILD)/setup.log; exit 1; }; touch $(BUILD)/with-tests; }
	@ninja -C $(BUILD) --quiet

check: tests
	@scripts/test $(BUILD) $(T)
bench: tests
	@bench/run $(BUILD) --tiers
fuzz:
	@scripts/fuzz $(T)
docs: all
	@scripts/docs $(BUILD)
format:
	@git ls-files 'src/*.[ch]' 'tests/*.[ch]' 'bench/*.[ch]' 'fuzz/*.[ch]' | xargs clang-format -i
install: all
	@meson install -C $(BUILD)
clean:
	@rm -rf build build-san build-fuzz
