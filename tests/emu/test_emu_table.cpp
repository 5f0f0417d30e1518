/* Checks that the table of tests/emu/README.md has the results of the three builds of
 * test_emu_faults. With --write it rewrites the table (make emu-table). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

extern "C" {
#include <cmocka.h>
}

static const char readme_path[] = "tests/emu/README.md";
static const char begin_mark[] = "<!-- faults: made by `make emu-table` -->\n",
                  end_mark[] = "<!-- end of faults -->\n";

static std::string read_all(const std::string &path)
{
    std::ifstream in(path);
    std::stringstream s;
    s << in.rdbuf();
    return s.str();
}

static time_t changed(const std::string &path)
{
    struct stat s;
    return stat(path.c_str(), &s) == 0 ? s.st_mtime : 0;
}

struct Row {
    std::string name, what, outcome, seeds;
};

static std::vector<Row> rows_of(const std::string &build, const char *mode)
{
    std::string column = build + "/emu/faults." + mode,
                program = build + "/emu/" + mode + "/test_emu_faults";
    if (changed(column) < changed(program)) { /* the program has not run since it was built */
        std::string command = "PLSTM_BUILD='" + build + "' '" + program + "' >/dev/null 2>&1";
        if (system(command.c_str()) != 0) fprintf(stderr, "%s failed\n", program.c_str());
    }
    std::vector<Row> rows;
    std::ifstream in(column);
    std::string line;
    while (std::getline(in, line)) {
        std::stringstream fields(line);
        Row r;
        std::getline(fields, r.name, '\t');
        std::getline(fields, r.what, '\t');
        std::getline(fields, r.outcome, '\t');
        std::getline(fields, r.seeds, '\t');
        rows.push_back(r);
    }
    return rows;
}

static std::string table_now()
{
    const char *variable = getenv("PLSTM_BUILD");
    std::string build = variable ? variable : "build";
    std::vector<Row> plain = rows_of(build, "plain"), asan = rows_of(build, "asan"),
                     race = rows_of(build, "race");
    if (plain.empty() || plain.size() != asan.size() || plain.size() != race.size()) return "";
    std::string t = "| fault | plain | 10 random seeds | ASan+UBSan | race build |\n| --- | --- | "
                    "--- | --- | --- |\n";
    for (size_t i = 0; i < plain.size(); i++)
        t += "| " + plain[i].what + " | " + plain[i].outcome + " | " + plain[i].seeds + " | " +
             asan[i].outcome + " | " + race[i].outcome + " |\n";
    return t;
}

/* Returns the README with the table replaced, or "" if it has no place for one. */
static std::string readme_with(const std::string &readme, const std::string &table)
{
    size_t begin = readme.find(begin_mark), end = readme.find(end_mark);
    if (begin == std::string::npos || end == std::string::npos) return "";
    return readme.substr(0, begin + strlen(begin_mark)) + table + readme.substr(end);
}

static void test_table_is_fresh(void **)
{
    std::string table = table_now(), readme = read_all(readme_path);
    assert_true(!table.empty());
    if (readme_with(readme, table) != readme)
        print_message(
            "%s does not say what the builds do now; `make emu-table` rewrites its table\n",
            readme_path);
    assert_true(readme_with(readme, table) == readme);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--write") == 0) {
        std::string table = table_now(), text = readme_with(read_all(readme_path), table);
        if (table.empty() || text.empty()) {
            fprintf(
                stderr,
                "no table: run the three test_emu_faults first, from the root of the repository\n");
            return 1;
        }
        std::ofstream(readme_path) << text;
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table_is_fresh)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
