// A picture into a YOLO network's input, and its answer into what the picture shows: letterbox, decoding, NMS.
// C++17's standard library alone; masks.hpp is for masks, and detector.hpp runs the network. The twin of
// yolo_distill/runtime, number by number.
#pragma once

#include <algorithm>
#include <array>
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

// What the network's answer looks like.
struct Form {
    bool end2end = false;  // (N, 6 + own), final, or dense: (4 + classes + own, A)
    int own = 0;           // numbers that the task adds to a box
    int keypoint = 0;      // of pose: numbers of a keypoint, x, y and perhaps how sure it is
    bool turned = false;   // of obb: whether the number more is an angle
};

struct Mask {
    int top = 0, left = 0, height = 0, width = 0;  // the part of the picture that the box shows
    std::vector<std::uint8_t> bits = {};           // of its pixels, row after row: 1 where the object is
};

struct Detection {
    float x1, y1, x2, y2;  // in pixels; of a turned box those of the upright one around it
    float score;
    int class_id;
    std::vector<float> own = {};  // pose: the keypoints; obb: centre x, centre y, width, height, angle in radians
    Mask mask = {};               // of segment
};

// The corners of a turned box: x and y of each.
inline std::array<float, 8> corners(const std::vector<float>& box) {
    const float cos = std::cos(box[4]) / 2, sin = std::sin(box[4]) / 2;
    const float dx = box[2] * cos, dy = box[2] * sin, ex = -box[3] * sin, ey = box[3] * cos;
    const float x = box[0], y = box[1];
    return {x + dx + ex, y + dy + ey, x + dx - ex, y + dy - ey, x - dx - ex, y - dy - ey, x - dx + ex, y - dy + ey};
}

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
        if (height < 1 || width < 1) throw std::invalid_argument("the picture is empty");
        const double scale = std::min(double(input_height) / height, double(input_width) / width);
        rows = std::max(int(std::nearbyint(height * scale)), 1);  // halves to the even number
        columns = std::max(int(std::nearbyint(width * scale)), 1);
        top = (input_height - rows) / 2;
        left = (input_width - columns) / 2;
    }

    // From pixels of the input to pixels of the picture, cut off at its borders.
    Detection to_picture(Detection found, const Form& form = Form()) const {
        const float across = float(double(columns) / width), down = float(double(rows) / height);
        const auto in_width = [&](float value) { return std::clamp(value, 0.0f, float(width)); };
        const auto in_height = [&](float value) { return std::clamp(value, 0.0f, float(height)); };
        const auto x = [&](float& value) { value = in_width((value - left) / across); };
        const auto y = [&](float& value) { value = in_height((value - top) / down); };
        x(found.x1), y(found.y1), x(found.x2), y(found.y2);
        for (int i = 0; form.keypoint && i < form.own; i += form.keypoint) x(found.own[i]), y(found.own[i + 1]);
        if (form.turned) {  // it may leave the picture
            auto& box = found.own;
            box = {(box[0] - left) / across, (box[1] - top) / down, box[2] / across, box[3] / down, box[4]};
            const auto [a, b, c, d, e, f, g, h] = corners(box);
            found.x1 = in_width(std::min({a, c, e, g})), found.x2 = in_width(std::max({a, c, e, g}));
            found.y1 = in_height(std::min({b, d, f, h})), found.y2 = in_height(std::max({b, d, f, h}));
        }
        return found;
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

// A turned box taken for a uniform distribution: its middle and its covariance.
struct Normal {
    double x, y, a, b, c;

    explicit Normal(const Detection& found) {
        const float shift = float(found.class_id) * 7680;
        x = found.own[0] + shift, y = found.own[1] + shift;
        const double cos = std::cos(found.own[4]), sin = std::sin(found.own[4]);
        const double along = std::pow(found.own[2], 2) / 12, across = std::pow(found.own[3], 2) / 12;
        a = along * cos * cos + across * sin * sin, b = along * sin * sin + across * cos * cos;
        c = (along - across) * cos * sin;
    }

    // 1 - the Hellinger distance of two such distributions, https://arxiv.org/abs/2106.06072.
    double overlap(const Normal& other) const {
        const double a2 = a + other.a, b2 = b + other.b, c2 = c + other.c, dx = other.x - x, dy = y - other.y;
        const double area = a2 * b2 - c2 * c2, mine = std::max(a * b - c * c, 0.0);
        const double others = std::max(other.a * other.b - other.c * other.c, 0.0);
        const double distance = (a2 * dy * dy + b2 * dx * dx + 2 * c2 * dx * dy) / (area + 1e-7) / 4 +
                                std::log(area / (4 * std::sqrt(mine * others) + 1e-7) + 1e-7) / 2;
        return 1 - std::sqrt(1 - std::exp(-std::clamp(distance, 1e-7, 100.0)) + 1e-7);
    }
};

// Places of the boxes that stay, best first: a box goes if it overlaps a better one of its class that stays; a turned
// one if it overlaps any better one.
inline std::vector<std::size_t> nms(const std::vector<Detection>& boxes, const Settings& settings,
                                    bool turned = false) {
    std::vector<std::size_t> order(boxes.size()), kept, seen;
    std::vector<Normal> normals;
    for (std::size_t i = 0; turned && i < boxes.size(); i++) normals.emplace_back(boxes[i]);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t one, std::size_t other) { return boxes[one].score > boxes[other].score; });
    order.resize(std::min<std::size_t>(order.size(), 30000));
    for (const std::size_t next : order) {
        if (kept.size() >= settings.max_det) break;
        const auto covers = [&](std::size_t better) {
            if (turned) return normals[better].overlap(normals[next]) > settings.iou;
            return overlap(boxes[better], boxes[next]) > settings.iou;
        };
        const auto& rivals = turned ? seen : kept;
        if (std::none_of(rivals.begin(), rivals.end(), covers)) kept.push_back(next);
        seen.push_back(next);
    }
    return kept;
}

// What the answer holds, best first, in pixels of the input: dense (4 + classes + own, A), or end to end (N, 6 + own).
inline std::vector<Detection> decode(const float* raw, int rows, int columns, const Form& form,
                                     const Settings& settings) {
    if (!std::all_of(raw, raw + std::size_t(rows) * columns, [](float number) { return std::isfinite(number); })) {
        throw std::runtime_error("nan or infinity in the network's answer");
    }
    std::vector<Detection> found, kept;
    const auto turn = [&](Detection& one, float x, float y, float wide, float tall) {
        if (form.turned) one.own.insert(one.own.begin(), {x, y, wide, tall});
    };
    if (form.end2end) {
        for (const float* row = raw; row < raw + columns * rows && found.size() < settings.max_det; row += columns) {
            if (!(row[4] > settings.conf)) continue;
            found.push_back({row[0], row[1], row[2], row[3], row[4], int(row[5]), {row + 6, row + columns}});
            turn(found.back(), row[0], row[1], row[2], row[3]);
        }
        return found;
    }
    std::vector<int> best(columns, 4);  // row of each column's highest score
    for (int row = 5; row < rows - form.own; row++) {
        for (int i = 0; i < columns; i++) {
            if (raw[row * columns + i] > raw[best[i] * columns + i]) best[i] = row;
        }
    }
    for (int i = 0; i < columns; i++) {
        const float score = raw[best[i] * columns + i];
        if (!(score > settings.conf)) continue;
        const float x = raw[i], y = raw[columns + i], wide = raw[2 * columns + i] / 2, tall = raw[3 * columns + i] / 2;
        found.push_back({x - wide, y - tall, x + wide, y + tall, score, best[i] - 4});
        auto& own = found.back().own;
        for (int row = rows - form.own; row < rows; row++) own.push_back(raw[row * columns + i]);
        turn(found.back(), x, y, 2 * wide, 2 * tall);
    }
    for (const std::size_t place : nms(found, settings, form.turned)) kept.push_back(found[place]);
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
