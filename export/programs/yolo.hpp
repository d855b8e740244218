// A picture into a YOLO network's input, and the network's answer into boxes in the picture: letterbox, decoding, NMS.
// C++17's standard library alone; detector.hpp runs the network. The twin of yolo_distill/runtime, number by number.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace yolo {

struct Settings {
    float conf = 0.25f;         // scores have to be above
    double iou = 0.7;           // overlap above which the worse of two boxes of a class goes
    std::size_t max_det = 300;  // most detections
};

struct Detection {
    float x1, y1, x2, y2;  // in pixels
    float score;
    int class_id;
};

struct Picture {
    const std::uint8_t* data;
    int height, width;
    std::size_t row;  // bytes from one row to the next
    int pixel;        // bytes from one pixel to the next
    bool blue_first;  // blue, green, red, as OpenCV gives it; else red, green, blue
};

// How a picture lies in the input: as large as fits, centred, an odd row or column of padding below or to the right.
struct Transform {
    int height, width;              // of the picture
    int input_height, input_width;  // of the input
    int rows, columns, top, left;   // of the picture inside the input

    Transform(int height, int width, int input_height, int input_width)
        : height(height), width(width), input_height(input_height), input_width(input_width) {
        const double scale = std::min(double(input_height) / height, double(input_width) / width);
        rows = std::max(int(std::nearbyint(height * scale)), 1);  // halves to the even number
        columns = std::max(int(std::nearbyint(width * scale)), 1);
        top = (input_height - rows) / 2;
        left = (input_width - columns) / 2;
    }

    // From pixels of the input to pixels of the picture, cut off at its borders.
    Detection to_picture(const Detection& found) const {
        const float across = float(double(columns) / width), down = float(double(rows) / height);
        const auto x = [&](float value) { return std::clamp((value - left) / across, 0.0f, float(width)); };
        const auto y = [&](float value) { return std::clamp((value - top) / down, 0.0f, float(height)); };
        return {x(found.x1), y(found.y1), x(found.x2), y(found.y2), found.score, found.class_id};
    }
};

// For a pixel along a side of the resized picture: two neighbours in the picture, and their weights of 11 bits.
struct Tap {
    int low, high, first, second;
};

inline std::vector<Tap> taps(int from, int to) {
    std::vector<Tap> taps(to);
    const double scale = 1 / (double(to) / from);
    for (int i = 0; i < to; i++) {
        const float place = float((i + 0.5) * scale - 0.5), floor = std::floor(place), rest = place - floor;
        const int low = std::clamp(int(floor), 0, from - 1), high = std::clamp(int(floor) + 1, 0, from - 1);
        taps[i] = {low, high, int(std::nearbyint((1 - rest) * 2048)), int(std::nearbyint(rest * 2048))};
    }
    return taps;
}

// The network's input (3, height, width): red, green, blue, 0 to 1. Resized as OpenCV's INTER_LINEAR does, bit for bit.
inline std::vector<float> letterbox(const Picture& picture, const Transform& transform) {
    const std::size_t area = std::size_t(transform.input_height) * transform.input_width;
    std::vector<float> input(3 * area, 114 / 255.0f);
    const auto across = taps(transform.width, transform.columns), down = taps(transform.height, transform.rows);
    for (int y = 0; y < transform.rows; y++) {
        const std::uint8_t* above = picture.data + picture.row * down[y].low;
        const std::uint8_t* below = picture.data + picture.row * down[y].high;
        float* to = &input[std::size_t(transform.top + y) * transform.input_width + transform.left];
        for (int x = 0; x < transform.columns; x++, to++) {
            const auto [low, high, first, second] = across[x];
            for (int channel = 0; channel < 3; channel++) {
                const int from = picture.blue_first ? 2 - channel : channel;
                const int left = picture.pixel * low + from, right = picture.pixel * high + from;
                const int upper = (above[left] * first + above[right] * second) >> 4;
                const int lower = (below[left] * first + below[right] * second) >> 4;
                const int level = ((down[y].first * upper >> 16) + (down[y].second * lower >> 16) + 2) >> 2;
                to[channel * area] = level / 255.0f;
            }
        }
    }
    return input;
}

// Intersection over union; nan, which is above nothing, if both boxes are without area.
inline float overlap(const Detection& one, const Detection& other) {
    if (one.class_id != other.class_id) return 0;
    const float shift = float(one.class_id) * 7680;  // Python moves classes apart, and rounds accordingly
    const float x1 = one.x1 + shift, y1 = one.y1 + shift, x2 = one.x2 + shift, y2 = one.y2 + shift;
    const float a1 = other.x1 + shift, b1 = other.y1 + shift, a2 = other.x2 + shift, b2 = other.y2 + shift;
    const float wide = std::min(x2, a2) - std::max(x1, a1), tall = std::min(y2, b2) - std::max(y1, b1);
    const float shared = std::max(wide, 0.0f) * std::max(tall, 0.0f);
    return shared / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - shared);
}

// Places of the boxes that stay, best first: a box goes if it overlaps a better one of its class that stays.
inline std::vector<std::size_t> nms(const std::vector<Detection>& boxes, const Settings& settings) {
    std::vector<std::size_t> order(boxes.size()), kept;
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t one, std::size_t other) { return boxes[one].score > boxes[other].score; });
    order.resize(std::min<std::size_t>(order.size(), 30000));
    for (const std::size_t next : order) {
        if (kept.size() >= settings.max_det) break;
        const auto covers = [&](std::size_t better) { return overlap(boxes[better], boxes[next]) > settings.iou; };
        if (std::none_of(kept.begin(), kept.end(), covers)) kept.push_back(next);
    }
    return kept;
}

// What the answer holds, best first, in pixels of the input: dense (4 + classes, A), or end to end (N, 6).
inline std::vector<Detection> decode(const float* raw, int rows, int columns, bool end2end, const Settings& settings) {
    if (!std::all_of(raw, raw + std::size_t(rows) * columns, [](float number) { return std::isfinite(number); })) {
        throw std::runtime_error("nan or infinity in the network's answer");
    }
    std::vector<Detection> found, kept;
    if (end2end) {
        for (const float* row = raw; row < raw + 6 * rows && found.size() < settings.max_det; row += 6) {
            if (row[4] > settings.conf) found.push_back({row[0], row[1], row[2], row[3], row[4], int(row[5])});
        }
        return found;
    }
    std::vector<int> best(columns, 4);  // row of each column's highest score
    for (int row = 5; row < rows; row++) {
        for (int i = 0; i < columns; i++) {
            if (raw[row * columns + i] > raw[best[i] * columns + i]) best[i] = row;
        }
    }
    for (int i = 0; i < columns; i++) {
        const float score = raw[best[i] * columns + i];
        if (!(score > settings.conf)) continue;
        const float x = raw[i], y = raw[columns + i], wide = raw[2 * columns + i] / 2, tall = raw[3 * columns + i] / 2;
        found.push_back({x - wide, y - tall, x + wide, y + tall, score, best[i] - 4});
    }
    for (const std::size_t place : nms(found, settings)) kept.push_back(found[place]);
    return kept;
}

// Class names of the file's note `names`, a dictionary as Python writes it: {0: 'disc', 1: "it's"}.
inline std::vector<std::string> read_names(const std::string& note) {
    std::vector<std::string> names;
    for (std::size_t at = 0; at < note.size(); at++) {
        const char quote = note[at];
        if (quote != '\'' && quote != '"') continue;
        std::string name;
        while (note.at(++at) != quote) name += note[at] == '\\' ? note.at(++at) : note[at];
        names.push_back(name);
    }
    return names;
}

}  // namespace yolo
