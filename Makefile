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

.PHONY: all check bench fuzz docs format install clean
all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

$(BUILD)/build.ninja:
	@meson setup $(BUILD) --prefix $(PREFIX) $(SETUP) >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }
	@mv $(BUILD).log $(BUILD)/setup.log

check: all
	@scripts/test $(BUILD) $(T)
bench: all
	@bench/run $(BUILD)
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
