//! The ways to link: shared, static, from C++, through CMake, under valgrind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{
    C99, HeapName, compile, flags, guarded, has, prefix, printed, program, succeed, workspace,
};

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(name)
}

fn run(program: &Path, case: &str) {
    let heap = HeapName::new();
    succeed(guarded(program).args([case, heap.as_str()]));
    assert!(!heap.exists(), "{} {case} left its heap behind", program.display());
}

#[test]
fn cxx_programs() {
    for standard in ["-std=c++11", "-std=c++17"] {
        let compiler = ["g++", standard, "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"];
        run(&compile(&source("cxx.cpp"), &compiler, &flags()), "run");
    }
}

#[test]
fn static_library() {
    let prefix = prefix();
    let mut linking = vec![
        format!("-I{}", prefix.join("include").display()),
        prefix.join("lib/libshmheap.a").display().to_string(),
    ];
    if has("pkg-config", "Libs.private of shmheap.pc") {
        let mut ask = Command::new("pkg-config");
        ask.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
        let all = printed(ask.args(["--static", "--libs-only-l", "shmheap"]));
        let system = all.split_whitespace().filter(|flag| *flag != "-lshmheap");
        linking.extend(system.map(str::to_owned));
    } else {
        linking.extend(["-lpthread", "-ldl", "-lm"].map(str::to_owned));
    }
    let program = compile(&source("original.c"), C99, &linking);
    let needed = printed(Command::new("readelf").arg("-d").arg(&program));
    assert!(!needed.contains("libshmheap"), "{needed}");
    for case in ["first_fit", "full", "unmaps", "errors"] {
        run(&program, case);
    }
    run(&compile(&source("threads.c"), C99, &linking), "disconnect_races");
}

#[test]
fn cmake_projects() {
    if !has("cmake", "the CMake package") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let project = format!(
        "cmake_minimum_required(VERSION 3.10)\n\
         project(consumer C CXX)\n\
         find_package(shmheap 0.1 REQUIRED CONFIG)\n\
         find_package(shmheap 0.1.0 EXACT REQUIRED CONFIG)\n\
         find_package(shmheap 0.2 CONFIG QUIET)\n\
         if(shmheap_FOUND)\n  message(FATAL_ERROR \"0.2 was found\")\nendif()\n\
         find_package(shmheap 0.1 REQUIRED CONFIG)\n\
         foreach(kind shmheap shmheap_static)\n  \
           add_executable(with_${{kind}} {})\n  \
           target_link_libraries(with_${{kind}} PRIVATE shmheap::${{kind}})\n  \
           add_executable(cxx_with_${{kind}} {})\n  \
           target_compile_features(cxx_with_${{kind}} PRIVATE cxx_std_17)\n  \
           target_link_libraries(cxx_with_${{kind}} PRIVATE shmheap::${{kind}})\n\
         endforeach()\n",
        source("original.c").display(),
        workspace().join("examples/cpp/stl.cpp").display()
    );
    fs::write(directory.path().join("CMakeLists.txt"), project).unwrap();
    let build = directory.path().join("build");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(directory.path()).arg("-B").arg(&build);
    configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix().display()));
    succeed(&mut configure);
    succeed(Command::new("cmake").arg("--build").arg(&build));
    for kind in ["shmheap", "shmheap_static"] {
        run(&build.join(format!("with_{kind}")), "first_fit");
        succeed(&mut guarded(&build.join(format!("cxx_with_{kind}"))));
    }
}

#[test]
fn the_prefix_can_be_moved_with_rpath_or_library_path() {
    let directory = tempfile::tempdir().unwrap();
    let moved = directory.path().join("moved");
    succeed(Command::new("cp").arg("-a").arg(prefix()).arg(&moved));
    let linking = [
        format!("-I{}", moved.join("include").display()),
        format!("-L{}", moved.join("lib").display()),
        "-lshmheap".to_owned(),
    ];
    let program = directory.path().join("program");
    let mut compile = Command::new("gcc");
    compile.arg("-std=c99").arg(source("alone.c")).args(linking).arg("-o").arg(&program);
    succeed(&mut compile);
    succeed(Command::new(&program).env("LD_LIBRARY_PATH", moved.join("lib")));
}

#[test]
fn valgrind_has_nothing_against_it() {
    if !has("valgrind", "the absence of invalid accesses") {
        return;
    }
    let run = |source: &str, case: &str| {
        let heap = HeapName::new();
        let mut command = guarded(Path::new("valgrind"));
        command.args(["--quiet", "--error-exitcode=9", "--leak-check=full"]);
        command.args(["--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]);
        succeed(command.arg(program(source)).args([case, heap.as_str()]));
    };
    run("original.c", "first_fit");
    run("misuse.c", "pointers");
    run("options.c", "versions");
    run("extended.c", "resized");
    run("scalable.c", "resized");
    run("scalable.c", "stale_handles");
    run("hands.c", "disconnected_by_another");
}
