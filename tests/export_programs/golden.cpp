// Answers what test_export_programs.py asks on standard input, a line each, with export/programs/yolo.hpp.
#include <iomanip>
#include <iostream>
#include <iterator>
#include <sstream>

#include "masks.hpp"

using namespace yolo;

int main() {
    std::cout << std::setprecision(9);
    for (std::string line, what; std::getline(std::cin, line); std::cout << std::endl) {
        std::istringstream words(line);
        words >> what;
        if (what == "names") {
            for (const auto& name : read_names(line.substr(6))) std::cout << name << "\t";
            continue;
        }
        const std::vector<double> given{std::istream_iterator<double>(words), {}};
        const auto transform = [&] { return Transform(int(given[0]), int(given[1]), int(given[2]), int(given[3])); };
        const auto floats = [&](int from) { return std::vector<float>(given.begin() + from, given.end()); };
        const auto boxes = [&](int from) {
            std::vector<Detection> boxes;
            for (std::size_t i = from; i < given.size(); i += 6) {
                const auto values = floats(int(i));
                boxes.push_back({values[0], values[1], values[2], values[3], values[4], int(values[5])});
            }
            return boxes;
        };
        const auto say = [](const Detection& one) {
            std::cout << one.x1 << " " << one.y1 << " " << one.x2 << " " << one.y2 << " " << one.score << " "
                      << one.class_id << " ";
            for (const float number : one.own) std::cout << number << " ";
        };
        if (what == "letterbox") {
            const auto lies = transform();
            const std::vector<std::uint8_t> bytes(given.begin() + 4, given.end());
            const Picture picture{bytes.data(), lies.height, lies.width, 3 * std::size_t(lies.width), 3, false};
            std::cout << lies.rows << " " << lies.columns << " " << lies.top << " " << lies.left;
            for (const float number : letterbox(picture, lies)) std::cout << " " << number;
        } else if (what == "back") {
            for (const auto& box : boxes(4)) say(transform().to_picture(box));
        } else if (what == "decode") {
            const Settings settings{float(given[0]), given[1], std::size_t(given[2])};
            const auto raw = floats(6);
            try {
                const auto found = decode(raw.data(), int(given[4]), int(given[5]), {given[3] != 0}, settings);
                for (const auto& one : found) say(one);
            } catch (const std::runtime_error&) {
                std::cout << "refused";
            }
        } else if (what == "task") {
            const Settings settings{float(given[4]), given[5], std::size_t(given[6])};
            const Form form{given[7] != 0, int(given[8]), int(given[9]), given[10] != 0};
            const auto raw = floats(13);
            for (const auto& one : decode(raw.data(), int(given[11]), int(given[12]), form, settings)) {
                say(transform().to_picture(one, form));
            }
        } else if (what == "mask") {
            const auto values = floats(7);
            const float *weights = values.data() + 4, *protos = weights + int(given[4]);
            const Prototypes prototypes(protos, int(given[4]), int(given[5]), int(given[6]), transform());
            const auto mask = prototypes.mask({values[0], values[1], values[2], values[3], 1, 0, {weights, protos}});
            std::cout << mask.top << " " << mask.left << " " << mask.height << " " << mask.width;
            for (const int bit : mask.bits) std::cout << " " << bit;
        } else if (what == "nms") {
            const Settings settings{0, given[0], std::size_t(given[1])};
            for (const auto place : nms(boxes(2), settings)) std::cout << place << " ";
        }
    }
}
